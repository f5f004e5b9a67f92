/** Who a container's user is, by its own passwd and group files, before anything runs in it. */
import type { FileIndex, FileOwner } from "../../images/file-index.ts";
import { readIndexed } from "../../images/read-indexed.ts";

/** Of either file. */
const maxBytes = 1024 ** 2;
const number = /^\d+$/;

/**
 * The numbers of a user (`name`, `1000`, `name:group`, …) as the agent finds them, whom numbers need no entry.
 *
 * @returns undefined: no such user or group, which the start will say
 */
export async function ownerIn(index: FileIndex, user: string): Promise<FileOwner | undefined> {
  const [name = "", group = ""] = user.split(":", 2);
  const wanted = name === "" ? "0" : name;
  const entry = (await linesOf(index, "/etc/passwd")).find(
    (fields) => fields[0] === wanted || (number.test(wanted) && fields[2] === wanted),
  );
  const uid = idOf(entry?.[2] ?? wanted);
  const gid = group === "" ? idOf(entry?.[3] ?? "0") : await groupIn(index, group);
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

async function groupIn(index: FileIndex, group: string): Promise<number | undefined> {
  const entry = (await linesOf(index, "/etc/group")).find(
    (fields) => fields[0] === group || (number.test(group) && fields[2] === group),
  );
  return idOf(entry?.[2] ?? group);
}

function idOf(text: string): number | undefined {
  return number.test(text) ? Number(text) : undefined;
}

/** The fields of each line; none of a file that is not there. */
async function linesOf(index: FileIndex, name: string): Promise<string[][]> {
  const found = index.find(index.targetOf(name));
  if (found.kind !== "file" || found.file.type !== "file") {
    return [];
  }
  const text = (await readIndexed(index, found.file, maxBytes)).toString();
  return text.split("\n").map((line) => line.trim().split(":"));
}
