-- civicbus: an outbox in a department's database. PostgreSQL 13 or newer.
-- Run it as the owner of the table that is published. It may run again at any time and changes only what differs.
BEGIN ISOLATION LEVEL READ COMMITTED;

-- What changed and is not published yet. The relay deletes a row once the broker has it.
-- The ids of one record rise in the order of its commits: a second writer of a record waits for the first to end,
-- and takes its id afterwards. For that the sequence must hand out one id at a time (CACHE 1, the default).
CREATE TABLE IF NOT EXISTS public.civicbus_outbox (
    id bigserial PRIMARY KEY,
    dataset text NOT NULL,
    operation text NOT NULL CHECK (operation IN ('upsert', 'delete')),
    row jsonb NOT NULL CHECK (jsonb_typeof(row) = 'object'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Which table fills which dataset, and its columns by the fields that they fill.
CREATE TABLE IF NOT EXISTS public.civicbus_outbox_tables (
    dataset text PRIMARY KEY,
    source regclass NOT NULL,
    fields jsonb NOT NULL,
    keys jsonb NOT NULL
);

-- Up to where the changes topics hold nothing but what was deleted from the outbox; the relay reads on from there.
CREATE TABLE IF NOT EXISTS public.civicbus_outbox_positions (
    dataset text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    settled bigint NOT NULL,
    PRIMARY KEY (dataset, topic_id, partition)
);

-- The texts of a row's columns under the names of their fields, NULL as null.
CREATE OR REPLACE FUNCTION public.civicbus_outbox_row(source_row jsonb, fields jsonb) RETURNS jsonb
LANGUAGE sql STABLE
AS $civicbus$
    SELECT pg_catalog.jsonb_object_agg(field.value, source_row OPERATOR(pg_catalog.->>) field.key)
    FROM pg_catalog.jsonb_each_text(fields) AS field
$civicbus$;

-- One row of a table was inserted, updated or deleted. Arguments: dataset, fields, keys.
CREATE OR REPLACE FUNCTION public.civicbus_outbox_take() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET extra_float_digits = 1
AS $civicbus$
DECLARE
    fields jsonb := TG_ARGV[1];
    keys jsonb := TG_ARGV[2];
    row_before jsonb;
    row_after jsonb;
    key_before jsonb;
    key_after jsonb;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        row_before := public.civicbus_outbox_row(to_jsonb(OLD), fields);
        key_before := public.civicbus_outbox_row(to_jsonb(OLD), keys);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        row_after := public.civicbus_outbox_row(to_jsonb(NEW), fields);
        key_after := public.civicbus_outbox_row(to_jsonb(NEW), keys);
    END IF;
    IF row_before = row_after THEN
        RETURN NULL;
    END IF;
    IF key_before IS NOT NULL AND key_before IS DISTINCT FROM key_after THEN
        INSERT INTO public.civicbus_outbox (dataset, operation, row) VALUES (TG_ARGV[0], 'delete', key_before);
    END IF;
    IF row_after IS NOT NULL THEN
        INSERT INTO public.civicbus_outbox (dataset, operation, row) VALUES (TG_ARGV[0], 'upsert', row_after);
    END IF;
    PERFORM pg_notify('civicbus_outbox', '');
    RETURN NULL;
END
$civicbus$;

-- A table is about to be truncated: every record of it is deleted. Arguments: dataset, fields, keys.
CREATE OR REPLACE FUNCTION public.civicbus_outbox_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
AS $civicbus$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'civicbus: TRUNCATE in a transaction that is %, which may not see every row that goes',
            upper(current_setting('transaction_isolation'))
            USING HINT = 'Truncate in a READ COMMITTED transaction, or DELETE the rows.';
    END IF;
    EXECUTE format(
        'INSERT INTO public.civicbus_outbox (dataset, operation, row)'
        ' SELECT $1, ''delete'', public.civicbus_outbox_row(to_jsonb(source), $2) FROM %s AS source',
        TG_RELID::regclass
    ) USING TG_ARGV[0], TG_ARGV[2]::jsonb;
    PERFORM pg_notify('civicbus_outbox', '');
    RETURN NULL;
END
$civicbus$;

-- Publish every row of a dataset's table; writers wait until the transaction ends, readers do not.
CREATE OR REPLACE FUNCTION public.civicbus_outbox_fill(filled_dataset text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET extra_float_digits = 1
AS $civicbus$
DECLARE
    known public.civicbus_outbox_tables;
    filled bigint;
BEGIN
    SELECT * INTO STRICT known FROM public.civicbus_outbox_tables WHERE dataset = filled_dataset;
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', known.source);
    EXECUTE format(
        'INSERT INTO public.civicbus_outbox (dataset, operation, row)'
        ' SELECT $1, ''upsert'', public.civicbus_outbox_row(to_jsonb(source), $2) FROM %s AS source',
        known.source
    ) USING known.dataset, known.fields;
    GET DIAGNOSTICS filled = ROW_COUNT;
    PERFORM pg_notify('civicbus_outbox', '');
    RETURN filled;
END
$civicbus$;

-- Publish a table as a dataset from now on, and the rows that it has already. ``names``: the names that a column
-- may have, and the field it fills; ``needed``: the fields that have no null; ``key``: the key's fields.
CREATE OR REPLACE FUNCTION public.civicbus_outbox_follow(
    followed regclass, as_dataset text, names jsonb, needed jsonb, key jsonb
) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $civicbus$
DECLARE
    known public.civicbus_outbox_tables;
    found_fields jsonb;
    found_keys jsonb;
    wrong text;
    filled bigint := 0;
BEGIN
    SELECT * INTO known FROM public.civicbus_outbox_tables WHERE dataset = as_dataset;
    IF known.source <> followed THEN
        RAISE EXCEPTION '% is published from the table % already', as_dataset, known.source
            USING HINT = 'Drop its triggers civicbus_outbox_take and civicbus_outbox_truncate, delete its row from'
                ' public.civicbus_outbox_tables, then run this again.';
    END IF;
    SELECT jsonb_object_agg(attname, names -> attname::text) INTO found_fields
    FROM pg_attribute WHERE attrelid = followed AND attnum > 0 AND NOT attisdropped AND names ? attname::text;
    SELECT string_agg(field, ', ') INTO wrong FROM (
        SELECT field FROM jsonb_each_text(found_fields) AS each (name, field) GROUP BY field HAVING count(*) > 1
    ) AS twice;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'two columns of % fill the field %', followed, wrong
            USING HINT = 'Rename one, or correct the headers in the catalogue.';
    END IF;
    SELECT string_agg(field, ', ') INTO wrong FROM jsonb_array_elements_text(needed) AS field
    WHERE NOT EXISTS (SELECT FROM jsonb_each_text(found_fields) AS each WHERE each.value = field);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'no column of % fills the field %', followed, wrong
            USING HINT = 'Write the column''s name into the field''s headers in the catalogue and apply it.';
    END IF;
    SELECT jsonb_object_agg(each.key, each.value) INTO found_keys
    FROM jsonb_each_text(found_fields) AS each (key, value)
    WHERE civicbus_outbox_follow.key ? each.value;
    IF NOT EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = followed AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL AND i.indexprs IS NULL
            AND NOT EXISTS (
                SELECT FROM pg_attribute AS a
                WHERE a.attrelid = followed AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                    AND NOT found_keys ? a.attname::text
            )
    ) THEN
        RAISE EXCEPTION 'no unique index of % is on the columns of the key', followed
            USING HINT = 'Make one that is not deferrable: without it two writers of one record have no order.';
    END IF;
    EXECUTE format('DROP TRIGGER IF EXISTS civicbus_outbox_take ON %s', followed);
    EXECUTE format(
        'CREATE TRIGGER civicbus_outbox_take AFTER INSERT OR UPDATE OR DELETE ON %s'
        ' FOR EACH ROW EXECUTE FUNCTION public.civicbus_outbox_take(%L, %L, %L)',
        followed, as_dataset, found_fields, found_keys
    );
    EXECUTE format('DROP TRIGGER IF EXISTS civicbus_outbox_truncate ON %s', followed);
    EXECUTE format(
        'CREATE TRIGGER civicbus_outbox_truncate BEFORE TRUNCATE ON %s'
        ' FOR EACH STATEMENT EXECUTE FUNCTION public.civicbus_outbox_truncate(%L, %L, %L)',
        followed, as_dataset, found_fields, found_keys
    );
    INSERT INTO public.civicbus_outbox_tables VALUES (as_dataset, followed, found_fields, found_keys)
    ON CONFLICT (dataset) DO UPDATE SET fields = excluded.fields, keys = excluded.keys;
    IF known.fields IS DISTINCT FROM found_fields THEN
        filled := public.civicbus_outbox_fill(as_dataset);
    END IF;
    RETURN format('%s is published as %s; %s rows that it has are on their way', followed, as_dataset, filled);
END
$civicbus$;

-- A trigger function that anybody may attach would let anybody publish under a dataset's name.
REVOKE EXECUTE ON FUNCTION public.civicbus_outbox_take(), public.civicbus_outbox_truncate() FROM PUBLIC;

