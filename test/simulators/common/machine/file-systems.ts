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
}

/** A directory of a file server, as an SMB client without POSIX extensions shows it. */
export interface ShareMount {
  readonly hostDirectory: string;
  /** The owner of all files, their group and modes (octal). */
  readonly uid: number;
  readonly gid: number;
  readonly fileMode: string;
  readonly dirMode: string;
  /** Whether there can be symbolic links. */
  readonly symlinks: boolean;
  /** Whether locks are the client's own, unseen by others. */
  readonly localLocks: boolean;
}

const nobody = 65_534;

/** The views of file systems that tasks of a simulator have mounted; equal ones are shared, as their caches are. */
export class FileSystemViews {
  readonly #enclosure: Enclosure;
  readonly #directory: string;
  readonly #views = new Map<string, Promise<string>>();
  #made = 0;

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
    return await this.#shared(mount, accessPointCommand(mount, posixUser));
  }

  /** The directory of a share to bind into a container. */
  async share(mount: ShareMount): Promise<string> {
    return await this.#shared(mount, shareCommand(mount));
  }

  /** Ends all views of a directory. */
  async end(hostDirectory: string): Promise<void> {
    const ended = [...this.#views].filter(
      ([key]) => (JSON.parse(key) as { hostDirectory: string }).hostDirectory === hostDirectory,
    );
    for (const [key, view] of ended) {
      this.#views.delete(key);
      await this.#enclosure.run(["umount", "--lazy", await view]);
    }
  }

  async #shared(mount: FileSystemMount | ShareMount, command: readonly string[]): Promise<string> {
    const key = JSON.stringify(mount);
    const existing = this.#views.get(key);
    if (existing !== undefined) {
      return await existing;
    }
    this.#made += 1;
    const made = this.#serve(mount.hostDirectory, command, path.join(this.#directory, String(this.#made)));
    this.#views.set(key, made);
    made.catch(() => this.#views.delete(key)); // The next task tries again.
    return await made;
  }

  async #serve(hostDirectory: string, command: readonly string[], mountPoint: string): Promise<string> {
    await mkdir(mountPoint, { recursive: true });
    await this.#enclosure.serve([this.#enclosure.program, ...command, hostDirectory, mountPoint]);
    return mountPoint;
  }
}

function accessPointCommand(
  { rootSquash }: FileSystemMount,
  { uid, gid, secondaryGids }: NonNullable<FileSystemMount["posixUser"]>,
): string[] {
  const user = rootSquash && uid === 0 ? nobody : uid;
  return ["filesystem", `-uid=${user}`, `-gid=${gid}`, `-groups=${secondaryGids.join(",")}`];
}

function shareCommand(mount: ShareMount): string[] {
  const { uid, gid, fileMode, dirMode, symlinks, localLocks } = mount;
  return [
    "share",
    `-uid=${uid}`,
    `-gid=${gid}`,
    `-file_mode=${fileMode}`,
    `-dir_mode=${dirMode}`,
    `-mfsymlinks=${symlinks}`,
    `-nobrl=${localLocks}`,
  ];
}
