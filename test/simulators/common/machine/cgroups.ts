/** Control groups of a simulator's containers, by their path below the root; both layouts that Linux has. */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import path from "node:path";

const mountPoint = "/sys/fs/cgroup";
const isUnified = existsSync(path.join(mountPoint, "cgroup.controllers"));

/** How many processes of a container the kernel has killed for want of memory; 0 once its group is gone. */
export async function oomKills(cgroup: string): Promise<number> {
  const file = isUnified ? [cgroup, "memory.events"] : ["memory", cgroup, "memory.oom_control"];
  try {
    const text = await readFile(path.join(mountPoint, ...file), "utf8");
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Limits the memory of everything below a group, in bytes. */
export async function limitMemory(cgroup: string, bytes: number): Promise<void> {
  const directory = isUnified ? path.join(mountPoint, cgroup) : path.join(mountPoint, "memory", cgroup);
  await mkdir(directory, { recursive: true });
  if (isUnified) {
    const ancestors = cgroup.split("/").filter((name) => name !== "");
    for (let depth = 0; depth < ancestors.length; depth += 1) {
      const ancestor = path.join(mountPoint, ...ancestors.slice(0, depth));
      await writeFile(path.join(ancestor, "cgroup.subtree_control"), "+memory +cpu +pids");
    }
  }
  await writeFile(path.join(directory, isUnified ? "memory.max" : "memory.limit_in_bytes"), String(bytes));
}

/** Removes a group and those below it, in every hierarchy; their processes have ended. */
export async function removeCgroup(cgroup: string): Promise<void> {
  const hierarchies = isUnified ? [""] : await readdir(mountPoint);
  await Promise.all(hierarchies.map((hierarchy) => removeTree(path.join(mountPoint, hierarchy, cgroup))));
}

async function removeTree(directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  for (const entry of entries.filter((each) => each.isDirectory())) {
    await removeTree(path.join(directory, entry.name));
  }
  await rmdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") {
      throw error;
    }
  });
}
