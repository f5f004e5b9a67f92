/** Resolves the user and group of a container that has not run yet, by its passwd and group files. */
import type { FileIndex, FileOwner } from "../../images/file-index.ts";
import { readIndexed } from "../../images/read-indexed.ts";

/** Maximum bytes to read of either file. */
const maxBytes = 1024 ** 2;
/** The largest user or group ID. */
const maxId = 2 ** 31 - 1;
const number = /^[+-]?\d+$/;

/**
 * Resolves a user (`name`, `1000`, `name:group`, …) as the agent does: a number needs no entry and is never taken for a
 * name.
 *
 * @returns undefined if there is no such user or group, which the start reports
 */
export async function ownerIn(index: FileIndex, user: string): Promise<FileOwner | undefined> {
  const [name = "", group = ""] = user.split(":", 2);
  const wanted = name === "" ? "0" : name;
  const entry = (await linesOf(index, "/etc/passwd")).find(named(wanted));
  const uid = idOf(entry?.[2] ?? wanted);
  const gid = group === "" ? idOf(entry?.[3] || "0") : await groupIn(index, group);
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

async function groupIn(index: FileIndex, group: string): Promise<number | undefined> {
  if (number.test(group)) {
    return idOf(group);
  }
  const entry = (await linesOf(index, "/etc/group")).find(named(group));
  return entry?.[0]?.startsWith("#") === true ? undefined : idOf(entry?.[2] ?? group);
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
  const found = index.find(index.targetOf(name));
  if (found.kind !== "file" || found.file.type !== "file") {
    return [];
  }
  const text = (await readIndexed(index, found.file, maxBytes)).toString();
  return text.split("\n").map((line) => line.trim().split(":"));
}
