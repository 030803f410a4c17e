package bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.avro.Schema;

/** One run: what to read, what to write, and under which name. */
record Task(
    String workload,
    String group,
    int threads,
    boolean tables,
    String folder,
    String bootstrapServers,
    String securityProtocol,
    String saslMechanism,
    String username,
    String password,
    Stream permits,
    Stream enterprises,
    List<Stream> outputs) {

  /** A topic and the schema of its values. */
  record Stream(String topic, Schema schema, int schemaId) {
    static Stream of(JsonNode node) {
      Schema schema = new Schema.Parser().parse(node.get("schema").asText());
      return new Stream(node.get("topic").asText(), schema, node.get("schema_id").asInt());
    }
  }

  static Task load(String file) throws IOException {
    ObjectMapper json = new ObjectMapper();
    JsonNode task = json.readTree(new File(file));
    JsonNode secret = json.readTree(new File(task.get("secret").asText()));
    List<Stream> outputs = new ArrayList<>();
    task.get("outputs").forEach(node -> outputs.add(Stream.of(node)));
    return new Task(
        task.get("workload").asText(),
        task.get("group").asText(),
        task.get("threads").asInt(),
        task.get("tables").asBoolean(),
        task.get("folder").asText(),
        task.get("bootstrap_servers").asText(),
        task.get("security_protocol").asText(),
        task.get("sasl_mechanism").asText(),
        secret.get("principal").asText(),
        secret.get("password").asText(),
        Stream.of(task.get("permits")),
        Stream.of(task.get("enterprises")),
        outputs);
  }
}
