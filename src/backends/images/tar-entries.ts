/** Writes tars: the entries of image archives, and entries of files with all their metadata. */

/** Bytes of a block, which all of a tar consists of. */
export const blockSize = 512;
/** The largest numbers that fit into the fields' octal digits. */
const largestSize = 8 ** 11 - 1;
const largestId = 8 ** 7 - 1;
/** Bytes of the name field. */
const nameBytes = 100;
/** The PAX key of the extended attribute. */
export const capabilityRecord = "SCHILY.xattr.security.capability";

/** Type flags of entries. */
const tarTypes = {
  file: "0",
  link: "1",
  symlink: "2",
  "character-device": "3",
  "block-device": "4",
  directory: "5",
  fifo: "6",
} as const;

export interface TarHeader {
  /** Name of the entry; a directory's ends in a slash. */
  readonly name: string;
  readonly type: keyof typeof tarTypes;
  /** Permission bits with set-user-ID, set-group-ID and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of content, which follow a file's header, followed by {@link paddingAfter}. */
  readonly size: number;
  /** Unix seconds. */
  readonly mtime: number;
  /** Target of a link. */
  readonly target?: string;
  /** Major and minor number of a device. */
  readonly device?: readonly [number, number] | undefined;
  /** Value of `security.capability`. */
  readonly capability?: string | undefined;
}

/** The header of a directory: owned by root, dated 1970, so that equal content gives equal bytes. */
export function directoryHeader(name: string): Buffer {
  return entryHeader({ ...ownedByRoot, name: `${name}/`, type: "directory", mode: 0o755, size: 0 });
}

/** The header of a file, like {@link directoryHeader}. @param mtime Unix seconds */
export function fileHeader(name: string, size: number, mtime = 0): Buffer {
  return entryHeader({ ...ownedByRoot, name, type: "file", mode: 0o644, size, mtime });
}

const ownedByRoot = { uid: 0, gid: 0, mtime: 0 } as const;

/** Zeros that fill up a file's last block. @param size of the file in bytes */
export function paddingAfter(size: number): Buffer {
  return Buffer.alloc(paddingOf(size));
}

/** The length of {@link paddingAfter}. */
export function paddingOf(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize;
}

/** The two zero blocks at the end of a tar. */
export function endOfTar(): Buffer {
  return Buffer.alloc(2 * blockSize);
}

/** The header of an entry, preceded by PAX records for values that do not fit into its fields. */
export function entryHeader(entry: TarHeader): Buffer {
  const { name, target = "", uid, gid, mtime, capability } = entry;
  const isMtimeKept = mtime >= 0 && mtime <= largestSize;
  const records = [
    ...(fits(name) ? [] : [record("path", name)]),
    ...(fits(target) ? [] : [record("linkpath", target)]),
    ...(uid <= largestId ? [] : [record("uid", String(uid))]),
    ...(gid <= largestId ? [] : [record("gid", String(gid))]),
    ...(isMtimeKept ? [] : [record("mtime", String(mtime))]),
    ...(capability === undefined ? [] : [record(capabilityRecord, capability)]),
  ];
  const header = block({
    ...entry,
    uid: Math.min(uid, largestId),
    gid: Math.min(gid, largestId),
    mtime: isMtimeKept ? mtime : 0,
    typeflag: tarTypes[entry.type],
  });
  if (records.length === 0) {
    return header;
  }
  const content = Buffer.concat(records);
  const size = content.length;
  const before = block({ ...ownedByRoot, name: "PaxHeaders/entry", mode: 0o644, size, typeflag: "x" });
  return Buffer.concat([before, content, paddingAfter(size), header]);
}

/** A PAX record, which begins with its own length. */
function record(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) {
    length = String(length).length + rest.length;
  }
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function fits(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: every byte of ASCII fits.
  return text.length <= nameBytes && /^[\u0000-\u007f]*$/.test(text);
}

interface Block extends Pick<TarHeader, "name" | "mode" | "uid" | "gid" | "size" | "mtime"> {
  readonly typeflag: string;
  readonly target?: string;
  readonly device?: readonly [number, number] | undefined;
}

function block({ name, mode, uid, gid, size, mtime, typeflag, target = "", device }: Block): Buffer {
  const bytes = Buffer.alloc(blockSize);
  bytes.write(name, 0, nameBytes, "latin1");
  bytes.write(octal(mode & 0o7777, 7), 100, "latin1");
  bytes.write(octal(uid, 7), 108, "latin1");
  bytes.write(octal(gid, 7), 116, "latin1");
  writeSize(bytes, size);
  bytes.write(octal(mtime, 11), 136, "latin1");
  bytes.write(" ".repeat(8), 148, "latin1");
  bytes.write(typeflag, 156, "latin1");
  bytes.write(target, 157, nameBytes, "latin1");
  bytes.write("ustar\u000000", 257, "latin1");
  if (device !== undefined) {
    bytes.write(octal(device[0], 7), 329, "latin1");
    bytes.write(octal(device[1], 7), 337, "latin1");
  }
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${octal(sum, 6)}\u0000 `, 148, "latin1");
  return bytes;
}

/** Sizes of 8 GiB and more use GNU's binary form, which every reader of Docker's archives supports. */
function writeSize(bytes: Buffer, size: number): void {
  if (size <= largestSize) {
    bytes.write(octal(size, 11), 124, "latin1");
  } else {
    bytes[124] = 0x80;
    bytes.writeBigUInt64BE(BigInt(size), 128);
  }
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, "0");
}
