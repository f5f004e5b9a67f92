import { invalid, systemError } from "../../common/errors.ts";
import type { FileIndex } from "./file-index.ts";
import type { IndexedFile } from "./indexed-file.ts";

/**
 * Reads the content of a file.
 *
 * @throws invalid if larger than `maxBytes`; system if its source has changed
 */
export async function readIndexed(
  index: Pick<FileIndex, "entriesOf">,
  file: IndexedFile,
  maxBytes: number,
): Promise<Buffer> {
  if (file.size > maxBytes) {
    throw invalid(`a file of ${file.size} bytes, at most ${maxBytes} are read`);
  }
  if (file.size === 0) {
    return Buffer.alloc(0);
  }
  let entry = -1;
  for await (const { content } of index.entriesOf(file.source)) {
    entry++;
    if (entry === file.entry) {
      return Buffer.concat(await Array.fromAsync(content));
    }
  }
  throw systemError("a file has moved since it was looked up");
}
