/** EFS on the machine: directories, seen as who may what there. */

/** A directory of a file system and the user that every operation on it is done as. */
export interface FileSystemMount {
  readonly hostDirectory: string;
  readonly posixUser:
    | { readonly uid: number; readonly gid: number; readonly secondaryGids: readonly number[] }
    | undefined;
  /** User 0 is treated as nobody. */
  readonly rootSquash: boolean;
}

/** The file systems that tasks of a simulator have mounted. */
export class FileSystemViews {
  /** The directory to bind into a container. */
  async view({ hostDirectory }: FileSystemMount): Promise<string> {
    return hostDirectory;
  }
}
