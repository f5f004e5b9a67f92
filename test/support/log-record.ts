/** Log records as agents write them. */
import { crc32c } from "../../src/common/crc32c.ts";
import { Stream } from "../../src/gen/sockerless/agent/v1/agent_pb.ts";

/** A record as docs/formats.md has it. @param timeNs Unix time */
export function logRecord(timeNs: number, text: string, stream = Stream.STDOUT, flags = 0): Buffer {
  const data = Buffer.from(text);
  const bytes = Buffer.alloc(24 + data.length);
  bytes.writeUInt16LE(0x4c53, 0);
  bytes.writeUInt8(stream, 2);
  bytes.writeUInt8(flags, 3);
  bytes.writeUInt32LE(data.length, 4);
  bytes.writeBigInt64LE(BigInt(timeNs), 8);
  bytes.writeUInt32LE(crc32c(data, crc32c(bytes.subarray(0, 16))), 16);
  data.copy(bytes, 20);
  bytes.writeUInt32LE(data.length, 20 + data.length);
  return bytes;
}
