/** The mounts of a process: `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)). */

/** A mount, with its propagation in the kernel's terms: `shared:1`, `master:1`. */
export interface MountInfo {
  /** Major and minor number of the file system. */
  readonly device: string;
  readonly mountPoint: string;
  readonly propagation: readonly string[];
}

/** Reads mountinfo, in its order. */
export function parseMountInfo(text: string): MountInfo[] {
  return text.split("\n").flatMap((line) => {
    // ID parent device root point options optional… - type source options
    const [before = ""] = line.split(" - ", 1);
    const [, , device, , point, , ...propagation] = before.split(" ");
    return device === undefined || point === undefined
      ? []
      : [{ device, mountPoint: unescaped(point), propagation }];
  });
}

/** Decodes blanks and backslashes, which are written in octal. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
