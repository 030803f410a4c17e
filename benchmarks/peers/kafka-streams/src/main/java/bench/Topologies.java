package bench;

import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;

/** The workloads, each in the words of the DSL. */
final class Topologies {
  private static final Serde<String> KEY = Serdes.String();
  private static final Utf8 APPROVED = new Utf8("approved");
  private static final Set<Utf8> NORTHERN =
      new HashSet<>(
          Arrays.asList(new Utf8("harbour"), new Utf8("north"), new Utf8("old_town"), new Utf8("lakeside")));
  private static final List<Predicate<GenericRecord>> RULES =
      List.of(
          row -> APPROVED.equals(row.get("status")),
          row -> row.get("area_m2") instanceof Double area && area >= 5000,
          row -> NORTHERN.contains(row.get("district")));

  private final Task task;
  private final StreamsBuilder builder = new StreamsBuilder();

  Topologies(Task task) {
    this.task = task;
  }

  Topology build() {
    switch (task.workload()) {
      case "project" -> {
        if (task.tables()) {
          projectTables();
        } else {
          project();
        }
      }
      case "enrich" -> {
        if (task.tables()) {
          joinTables();
        } else {
          enrich();
        }
      }
      case "both-sides" -> joinTables();
      default -> throw new IllegalArgumentException(task.workload());
    }
    return builder.build();
  }

  private void project() {
    KStream<String, GenericRecord> permits = onlyCause(permits());
    for (int number = 0; number < RULES.size(); number++) {
      Predicate<GenericRecord> rule = RULES.get(number);
      Task.Stream output = task.outputs().get(number);
      Projection projection = new Projection(task.permits().schema(), output.schema());
      permits
          .filter((key, row) -> rule.test(row))
          .mapValues(projection::of)
          .to(output.topic(), Produced.with(KEY, new FramedAvro(output)));
    }
  }

  private void enrich() {
    Task.Stream output = task.outputs().get(0);
    Joined joined = new Joined(task.permits().schema(), output.schema());
    GlobalKTable<String, GenericRecord> enterprises =
        builder.globalTable(
            task.enterprises().topic(), materialized("enterprises", new FramedAvro(task.enterprises())));
    onlyCause(permits())
        .leftJoin(enterprises, (key, permit) -> codeOf(permit), joined::of)
        .to(output.topic(), Produced.with(KEY, new FramedAvro(output)));
  }

  /** Each output as a table that is kept: what leaves it is taken back, and what it holds is remembered. */
  private void projectTables() {
    KTable<String, GenericRecord> permits = table(task.permits(), "permits");
    for (int number = 0; number < RULES.size(); number++) {
      Predicate<GenericRecord> rule = RULES.get(number);
      Task.Stream output = task.outputs().get(number);
      Projection projection = new Projection(task.permits().schema(), output.schema());
      FramedAvro rows = new FramedAvro(output);
      KTable<String, GenericRecord> kept =
          permits
              .filter((key, row) -> rule.test(row))
              .mapValues(projection::of, materialized("output" + number, rows));
      onlyCause(kept.toStream()).to(output.topic(), Produced.with(KEY, rows));
    }
  }

  private void joinTables() {
    Task.Stream output = task.outputs().get(0);
    Joined joined = new Joined(task.permits().schema(), output.schema());
    KTable<String, GenericRecord> permits = table(task.permits(), "permits");
    KTable<String, GenericRecord> enterprises = table(task.enterprises(), "enterprises");
    KTable<String, GenericRecord> enriched =
        permits.leftJoin(
            enterprises, Topologies::codeOf, joined::of, Materialized.with(KEY, new FramedAvro(output)));
    onlyCause(enriched.toStream()).to(output.topic(), Produced.with(KEY, new FramedAvro(output)));
  }

  private KStream<String, GenericRecord> permits() {
    return builder.stream(task.permits().topic(), Consumed.with(KEY, new FramedAvro(task.permits())));
  }

  private KTable<String, GenericRecord> table(Task.Stream stream, String name) {
    FramedAvro rows = new FramedAvro(stream);
    return builder.table(stream.topic(), Consumed.with(KEY, rows), materialized(name, rows));
  }

  private static Materialized<String, GenericRecord, KeyValueStore<Bytes, byte[]>> materialized(
      String name, FramedAvro rows) {
    return Materialized.<String, GenericRecord, KeyValueStore<Bytes, byte[]>>as(name)
        .withKeySerde(KEY)
        .withValueSerde(rows);
  }

  private static String codeOf(GenericRecord permit) {
    Object code = permit.get("enterprise_code");
    return code == null ? null : code.toString();
  }

  private static KStream<String, GenericRecord> onlyCause(KStream<String, GenericRecord> rows) {
    return rows.processValues(OnlyCause::new);
  }

  /** One header goes on, as with every engine. */
  private static final class OnlyCause
      extends ContextualFixedKeyProcessor<String, GenericRecord, GenericRecord> {
    @Override
    public void process(FixedKeyRecord<String, GenericRecord> row) {
      row.headers().remove("sequence");
      context().forward(row);
    }
  }

  /** The fields of one schema from a row of another, by position. */
  private record Projection(Schema to, int[] from) {
    Projection(Schema from, Schema to) {
      this(to, to.getFields().stream().mapToInt(field -> position(from, field.name())).toArray());
    }

    GenericRecord of(GenericRecord row) {
      GenericRecord projected = new GenericData.Record(to);
      for (int place = 0; place < from.length; place++) {
        if (from[place] >= 0) {
          projected.put(place, row.get(from[place]));
        }
      }
      return projected;
    }

    private static int position(Schema schema, String name) {
      Schema.Field field = schema.getField(name);
      return field == null ? -1 : field.pos();
    }
  }

  /** A permit with what is told of its enterprise. */
  private record Joined(Projection projection, int name, int status) {
    Joined(Schema from, Schema to) {
      this(
          new Projection(from, to),
          to.getField("enterprise_name").pos(),
          to.getField("enterprise_status").pos());
    }

    GenericRecord of(GenericRecord permit, GenericRecord enterprise) {
      GenericRecord joined = projection.of(permit);
      if (enterprise != null) {
        joined.put(name, enterprise.get("name"));
        joined.put(status, enterprise.get("status"));
      }
      return joined;
    }
  }
}
