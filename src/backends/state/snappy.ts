/** Snappy, LevelDB's usual compression (https://github.com/google/snappy/blob/main/format_description.txt). */
import { BinaryReader } from "@bufbuild/protobuf/wire";

const tags = { literal: 0, copy1: 1, copy2: 2 } as const;
/** From this length code on, a literal's length follows in as many bytes as the code exceeds it. */
const lastShortLiteral = 60;

/** Decompresses bytes. @throws RangeError if they are invalid */
export function uncompressed(bytes: Uint8Array): Buffer {
  const reader = new BinaryReader(bytes);
  const out = Buffer.alloc(reader.uint32());
  const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = 0;
  for (let at = reader.pos; at < input.length; ) {
    const tag = input.readUInt8(at++);
    const high = tag >>> 2;
    if ((tag & 3) === tags.literal) {
      const more = Math.max(0, high - lastShortLiteral + 1);
      const length = (more === 0 ? high : input.readUIntLE(at, more)) + 1;
      at += more;
      end += input.copy(out, end, at, at + length);
      at += length;
      continue;
    }
    const isNear = (tag & 3) === tags.copy1;
    const offsetBytes = isNear ? 1 : (tag & 3) === tags.copy2 ? 2 : 4;
    const offset = input.readUIntLE(at, offsetBytes) + (isNear ? (tag >>> 5) << 8 : 0);
    const length = isNear ? (high & 7) + 4 : high + 1;
    at += offsetBytes;
    for (const stop = end + length; end < stop; end++) {
      out.writeUInt8(out.readUInt8(end - offset), end); // Source and copy may overlap.
    }
  }
  return out;
}
