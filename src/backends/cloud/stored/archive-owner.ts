/** Resolves the user and group of a container that has not run yet, by its passwd and group files. */
import type { FileIndex, FileOwner } from "../../images/file-index.ts";
import type { IndexedFile } from "../../images/indexed-file.ts";
import { readIndexed } from "../../images/read-indexed.ts";

/** Maximum bytes to read of either file. */
const maxBytes = 1024 ** 2;
/** The largest user or group ID. */
const maxId = 2 ** 31 - 1;
const number = /^[+-]?\d+$/;
const [passwd, group] = ["/etc/passwd", "/etc/group"];

/** Resolves users anew only once a file that tells them has been replaced. */
export class Owners {
  readonly #index: FileIndex;
  #last: { readonly of: readonly unknown[]; readonly owner: FileOwner | undefined } | undefined;

  constructor(index: FileIndex) {
    this.#index = index;
  }

  /** As {@link ownerIn}. */
  async of(user: string): Promise<FileOwner | undefined> {
    const of = [user, fileAt(this.#index, passwd), fileAt(this.#index, group)];
    const last = this.#last;
    if (last !== undefined && of.every((each, index) => each === last.of[index])) {
      return last.owner;
    }
    const owner = await ownerIn(this.#index, user);
    this.#last = { of, owner };
    return owner;
  }
}

/**
 * Resolves a user (`name`, `1000`, `name:group`, …) as the agent does: a number needs no entry and is never taken for a
 * name.
 *
 * @returns undefined if there is no such user or group, which the start reports
 */
export async function ownerIn(index: FileIndex, user: string): Promise<FileOwner | undefined> {
  const [name = "", groupName = ""] = user.split(":", 2);
  const wanted = name === "" ? "0" : name;
  const entry = (await linesOf(index, passwd)).find(named(wanted));
  const uid = idOf(entry?.[2] ?? wanted);
  const gid = groupName === "" ? idOf(entry?.[3] || "0") : await groupIn(index, groupName);
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

async function groupIn(index: FileIndex, wanted: string): Promise<number | undefined> {
  if (number.test(wanted)) {
    return idOf(wanted);
  }
  const entry = (await linesOf(index, group)).find(named(wanted));
  return entry?.[0]?.startsWith("#") === true ? undefined : idOf(entry?.[2] ?? wanted);
}

/** Whether a line of either file matches a name or number. */
function named(wanted: string): (fields: readonly string[]) => boolean {
  return number.test(wanted)
    ? ([, , id = ""]) => idOf(id) !== undefined && idOf(id) === idOf(wanted)
    : ([name]) => name === wanted;
}

function idOf(text: string): number | undefined {
  const id = Number(text);
  return number.test(text) && id >= 0 && id <= maxId ? id : undefined;
}

/** The fields of each line; none if the file is missing. */
async function linesOf(index: FileIndex, name: string): Promise<string[][]> {
  const file = fileAt(index, name);
  if (file === undefined) {
    return [];
  }
  const text = (await readIndexed(index, file, maxBytes)).toString();
  return text.split("\n").map((line) => line.trim().split(":"));
}

function fileAt(index: FileIndex, name: string): IndexedFile | undefined {
  const found = index.find(index.targetOf(name));
  return found.kind === "file" && found.file.type === "file" ? found.file : undefined;
}
