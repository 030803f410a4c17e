package bench;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serializer;

/** Generic records behind the Confluent frame. Used by one thread at a time, as every serde of a topology is. */
final class FramedAvro implements Serde<GenericRecord> {
  private static final int FRAME_BYTES = 5;

  private final Task.Stream stream;

  FramedAvro(Task.Stream stream) {
    this.stream = stream;
  }

  @Override
  public Serializer<GenericRecord> serializer() {
    var writer = new GenericDatumWriter<GenericRecord>(stream.schema());
    byte[] frame = ByteBuffer.allocate(FRAME_BYTES).put((byte) 0).putInt(stream.schemaId()).array();
    ThreadLocal<Buffer> buffers = ThreadLocal.withInitial(Buffer::new);
    return (topic, row) -> row == null ? null : buffers.get().write(frame, writer, row);
  }

  @Override
  public Deserializer<GenericRecord> deserializer() {
    var reader = new GenericDatumReader<GenericRecord>(stream.schema());
    ThreadLocal<BinaryDecoder> decoders = new ThreadLocal<>();
    return (topic, bytes) -> bytes == null ? null : read(reader, bytes, decoders);
  }

  private static GenericRecord read(
      GenericDatumReader<GenericRecord> reader, byte[] bytes, ThreadLocal<BinaryDecoder> decoders) {
    int length = bytes.length - FRAME_BYTES;
    BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(bytes, FRAME_BYTES, length, decoders.get());
    decoders.set(decoder);
    try {
      return reader.read(null, decoder);
    } catch (IOException failed) {
      throw new UncheckedIOException(failed);
    }
  }

  private static final class Buffer {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(512);
    private BinaryEncoder encoder;

    byte[] write(byte[] frame, GenericDatumWriter<GenericRecord> writer, GenericRecord row) {
      bytes.reset();
      bytes.writeBytes(frame);
      encoder = EncoderFactory.get().directBinaryEncoder(bytes, encoder);
      try {
        writer.write(row, encoder);
        encoder.flush();
      } catch (IOException failed) {
        throw new UncheckedIOException(failed);
      }
      return bytes.toByteArray();
    }
  }
}
