/** Tar files written by hand: entries of known size, root's, of 1970, so that equal content gives equal bytes. */

const blockSize = 512;
/** The largest size that fits the field's eleven octal digits. */
const largestOctal = 8 ** 11 - 1;

/** The header of a directory. */
export function directoryHeader(name: string): Buffer {
  return header(`${name}/`, 0, 0o755, "5");
}

/** The header of a file; its content and {@link paddingAfter} follow. */
export function fileHeader(name: string, size: number): Buffer {
  return header(name, size, 0o644, "0");
}

/** What fills a file's last block. */
export function paddingAfter(size: number): Buffer {
  return Buffer.alloc((blockSize - (size % blockSize)) % blockSize);
}

/** What ends a tar. */
export function endOfTar(): Buffer {
  return Buffer.alloc(2 * blockSize);
}

/** @param name at most 100 bytes of ASCII */
function header(name: string, size: number, mode: number, type: string): Buffer {
  const block = Buffer.alloc(blockSize);
  block.write(name, 0, 100, "latin1");
  block.write(octal(mode, 7), 100, "latin1");
  block.write(octal(0, 7), 108, "latin1");
  block.write(octal(0, 7), 116, "latin1");
  writeSize(block, size);
  block.write(octal(0, 11), 136, "latin1");
  block.write(" ".repeat(8), 148, "latin1");
  block.write(type, 156, "latin1");
  block.write("ustar\u000000", 257, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 6)}\u0000 `, 148, "latin1");
  return block;
}

/** Sizes of 8 GiB and more are written in GNU's binary form, which every reader of Docker's archives knows. */
function writeSize(block: Buffer, size: number): void {
  if (size <= largestOctal) {
    block.write(octal(size, 11), 124, "latin1");
  } else {
    block[124] = 0x80;
    block.writeBigUInt64BE(BigInt(size), 128);
  }
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, "0");
}
