/** The npm package: for clouds' backends, on any machine with npm. It has its libraries in it, and Node beside it. */
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { root } from "../program.ts";
import {
  addGoPrograms,
  addLibraries,
  addProgram,
  type Commit,
  nodeNames,
  removeNeedless,
  setModes,
  succeed,
} from "./application.ts";

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly license: string;
  readonly type: string;
  readonly bin: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

/**
 * Writes the package: programs for amd64, and the agent for arm64 as `build/arm64/sockerless-agent`.
 *
 * @returns its path
 */
export async function writeNpmPackage(output: string, commit: Commit): Promise<string> {
  const scratch = await mkdtemp(join(output, ".npm-"));
  try {
    const home = join(scratch, "package");
    await mkdir(home);
    const nodeVersion = await addLibraries(home, "amd64");
    await removeNeedless(join(home, "node_modules"));
    await addProgram(home, commit);
    await addGoPrograms(join(home, "build"), "amd64", false);
    await addGoPrograms(join(scratch, "arm64"), "arm64", false);
    await mkdir(join(home, "build/arm64"));
    await rename(join(scratch, "arm64/sockerless-agent"), join(home, "build/arm64/sockerless-agent"));
    for (const file of ["README.md", "LICENSE"]) {
      await cp(join(root, file), join(home, file));
    }
    await writeFile(join(home, "package.json"), await manifest(nodeVersion));
    await setModes(home);
    const file = await succeed(
      "npm",
      ["pack", "--silent", "--ignore-scripts", "--pack-destination", output],
      home,
    );
    return join(output, file.trim());
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Node comes as npm's packages of its programs, which need no script at their installation; elsewhere it is found on PATH. */
async function manifest(nodeVersion: string): Promise<string> {
  const all = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as Manifest;
  const { name, version, description, license, type, bin } = all;
  const { node: _, ...dependencies } = all.dependencies;
  const nodes = Object.values(nodeNames).map((cpu) => [`node-linux-${cpu}`, nodeVersion]);
  const content = {
    ...{ name, version, description, license, type, bin, dependencies },
    bundleDependencies: Object.keys(dependencies),
    optionalDependencies: Object.fromEntries(nodes) as Record<string, string>,
    files: ["bin", "build", "dist"],
  };
  return `${JSON.stringify(content, undefined, 2)}\n`;
}
