/** A file system of a test's own that can be filled to its last byte. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, statfs, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runCommand } from "./command.ts";
import { until } from "./until.ts";

/** Size and format of a small disk. */
export interface SmallDiskOptions {
  readonly sizeMib: number;
  /** Further arguments of mkfs.ext4: fewer inodes, say. */
  readonly mkfs?: readonly string[];
}

/** A mounted ext4 file system in a file. Only for root. */
export class SmallDisk {
  /** Outside of the file system; goes with it. */
  readonly directory: string;
  /** Mount point. */
  readonly path: string;

  private constructor(directory: string) {
    this.directory = directory;
    this.path = join(directory, "disk");
  }

  static async mount({ sizeMib, mkfs = [] }: SmallDiskOptions): Promise<SmallDisk> {
    const disk = new SmallDisk(await mkdtemp(join(tmpdir(), "skl-disk-")));
    const image = join(disk.directory, "image");
    await writeFile(image, "");
    await truncate(image, sizeMib * 1024 * 1024);
    await must("mkfs.ext4", "-q", "-m", "0", ...mkfs, image);
    await mkdir(disk.path);
    await must("mount", "-o", "loop", image, disk.path);
    return disk;
  }

  /** Free bytes. */
  async available(): Promise<number> {
    const { bavail, bsize } = await statfs(this.path);
    return bavail * bsize;
  }

  /** Leaves the file system with about so many KiB; 0: not one byte. */
  async fillUpTo(leftKib: number): Promise<void> {
    await this.empty();
    const ballast = join(this.path, "ballast");
    await mkdir(ballast);
    // A large file leaves what ext4 sets aside for writing one; small files take that too.
    const script =
      leftKib === 0
        ? "cat < /dev/zero > large; n=0; while echo x > $n; do n=$((n + 1)); done"
        : `head -c ${Math.floor((await this.available()) / 1024) - leftKib}K < /dev/zero > large`;
    await runCommand("sh", ["-c", script], { cwd: ballast });
  }

  /** Takes away what {@link fillUpTo} has put there. */
  async empty(): Promise<void> {
    await rm(join(this.path, "ballast"), { force: true, recursive: true });
  }

  async remount(how: "ro" | "rw"): Promise<void> {
    await must("mount", "-o", `remount,${how}`, this.path);
  }

  /** Unmounts it, once nobody has anything open on it, and removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await until(async () => (await runCommand("umount", [this.path])).code === 0 || undefined);
    await rm(this.directory, { recursive: true });
  }
}

async function must(program: string, ...args: string[]): Promise<void> {
  const { code, errorText } = await runCommand(program, args);
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${errorText}`);
}
