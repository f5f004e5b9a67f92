/**
 * Uploads by hand, both ends: calls of the client's stream whose messages are `open`, `chunk` (bytes, field 2 alone) and
 * `end`, in Connect's streaming form. The bytes of a chunk are neither copied nor assembled: the library copies each five
 * times on its way, and V8 collects for every 36 MB of them (docs/adr/0090-unary-calls-by-hand.md has the same reason).
 */
/** Paths of the calls. */
export const uploadPaths: ReadonlySet<string> = new Set(
  ["ImportImage", "LoadImage"].map((name) => `/sockerless.backend.v1.ImageService/${name}`),
);

/** The content type of Connect's streams in binary form. */
export const streamContentType = "application/connect+proto";

/** Flag of the envelope that ends a stream. */
export const endOfStream = 0b10;

/** Bytes before each message: flags, and its length. */
export const envelopePrefix = 5;

/** `chunk`: field 2, bytes. */
const chunkTag = 0x12;

/** Encodes the prefix of a message. */
export function envelopeHead(flags: number, length: number): Buffer {
  const head = Buffer.allocUnsafe(envelopePrefix);
  head[0] = flags;
  head.writeUInt32BE(length, 1);
  return head;
}

/** Encodes the part of a message before a chunk's bytes, envelope and all. */
export function chunkHead(length: number): Buffer {
  const varint: number[] = [];
  for (let rest = length; varint.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest) && rest > 0x7f; ) {
    rest >>>= 7;
  }
  return Buffer.concat([envelopeHead(0, 1 + varint.length + length), Buffer.from([chunkTag, ...varint])]);
}

/** Index of a chunk's bytes in a message; undefined: it is another message. */
export function chunkStart(message: Uint8Array, length: number): number | undefined {
  if (message[0] !== chunkTag) {
    return undefined;
  }
  let size = 0;
  for (let at = 1; at < message.length && at <= 5; at++) {
    const byte = message[at] ?? 0;
    size += (byte & 0x7f) * 2 ** (7 * (at - 1));
    if (byte < 0x80) {
      return at + 1 + size === length ? at + 1 : undefined;
    }
  }
  return undefined;
}

/** Enough of a message for {@link chunkStart}. */
export const chunkHeadBytes = 6;
