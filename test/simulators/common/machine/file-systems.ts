/** Network file systems on the machine: directories, seen as those may see them who mount them. */
import { mkdir } from "node:fs/promises";
import path from "node:path";

import type { Enclosure } from "./enclosure.ts";

/** A directory of a file system and the user that every operation on it is done as. */
export interface FileSystemMount {
  readonly hostDirectory: string;
  readonly posixUser:
    | { readonly uid: number; readonly gid: number; readonly secondaryGids: readonly number[] }
    | undefined;
  /** User 0 is treated as nobody. */
  readonly rootSquash: boolean;
  /** Whether the forced user can change owners, where it may. */
  readonly allowsChown: boolean;
}

const nobody = 65_534;

/** The views of file systems that tasks of a simulator have mounted; equal ones are shared, as their caches are. */
export class FileSystemViews {
  readonly #enclosure: Enclosure;
  readonly #directory: string;
  readonly #views = new Map<string, Promise<string>>();

  constructor(enclosure: Enclosure, directory: string) {
    this.#enclosure = enclosure;
    this.#directory = directory;
  }

  /** The directory to bind into a container. */
  async view(mount: FileSystemMount): Promise<string> {
    const { hostDirectory, posixUser, rootSquash } = mount;
    if (posixUser === undefined) {
      if (rootSquash) {
        throw new Error("root squash is simulated for access points with a forced user only");
      }
      return hostDirectory;
    }
    const key = JSON.stringify(mount);
    const existing = this.#views.get(key);
    if (existing !== undefined) {
      return await existing;
    }
    const made = this.#serve(mount, posixUser, path.join(this.#directory, String(this.#views.size)));
    this.#views.set(key, made);
    return await made;
  }

  async #serve(
    { hostDirectory, rootSquash, allowsChown }: FileSystemMount,
    { uid, gid, secondaryGids }: NonNullable<FileSystemMount["posixUser"]>,
    mountPoint: string,
  ): Promise<string> {
    await mkdir(mountPoint, { recursive: true });
    const user = rootSquash && uid === 0 ? nobody : uid;
    const flags = [
      `-uid=${user}`,
      `-gid=${gid}`,
      `-groups=${secondaryGids.join(",")}`,
      `-chown=${allowsChown}`,
    ];
    await this.#enclosure.serve([this.#enclosure.program, "filesystem", ...flags, hostDirectory, mountPoint]);
    return mountPoint;
  }
}
