/**
 * Docker's own source, by its Go module: the module carries the daemon, its tests and the list of what they depend on. A
 * dockerd of that release, its proxy and its test suites are built from it, once, at a low priority.
 */
import { cp, mkdir, mkdtemp, rename, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { runCommand } from "../support/command.ts";
import { cached, cache } from "./cache.ts";

/** The release whose suites judge and whose daemon is the reference. */
export const mobyVersion = "28.5.2";

const buildLimitMs = 40 * 60_000;
const folder = `moby-${mobyVersion}`;

/** The unpacked source with its `go.mod`. */
export function mobySource(): Promise<string> {
  return cached(`${folder}/source`, async (temporary) => {
    await cp(await downloadModule("github.com/docker/docker", `v${mobyVersion}+incompatible`), temporary, {
      recursive: true,
    });
    await makeWritable(temporary);
    // The zip of a module has no vendored packages, only their list, which would be wrong without them.
    await rm(join(temporary, "vendor"), { recursive: true, force: true });
    await rename(join(temporary, "vendor.mod"), join(temporary, "go.mod"));
    await rename(join(temporary, "vendor.sum"), join(temporary, "go.sum"));
  });
}

/**
 * A directory with `dockerd` and `docker-proxy` of that release, and `registry` as its tests call Debian's. containerd, its
 * shim and runc are those on PATH.
 */
export async function mobyPrograms(): Promise<string> {
  const stamp = [
    ...["-w", "-s", "-extldflags", "-static"],
    ...["-X", `github.com/docker/docker/dockerversion.Version=${mobyVersion}`],
    ...["-X", "github.com/docker/docker/dockerversion.GitCommit=conformance"],
  ].join(" ");
  const tags = "netgo osusergo static_build";
  const dockerd = await built("bin/dockerd", [
    ...["build", `-tags=${tags}`, `-ldflags=${stamp}`],
    "./cmd/dockerd",
  ]);
  await built("bin/docker-proxy", ["build", "./cmd/docker-proxy"]);
  await cached(`${folder}/bin/registry`, (temporary) => symlink("/usr/bin/docker-registry", temporary));
  return dirname(dockerd);
}

/** The test binary of a package of the source: `integration/container`. */
export function mobySuite(packagePath: string): Promise<string> {
  const name = `${packagePath.replaceAll("/", "-")}.test`;
  // With the paths of the source, in which a failed assertion looks up its own text.
  return built(`suites/${name}`, ["test", "-c", `./${packagePath}`]);
}

async function built(path: string, args: readonly string[]): Promise<string> {
  const source = await mobySource();
  const [command = "", ...rest] = args;
  return await cached(`${folder}/${path}`, (temporary) => goIn(source, [command, "-o", temporary, ...rest]));
}

/** Runs go in a directory of a module, quietly, and once at a time: the next one has it from Go's cache. */
export async function goIn(directory: string, args: readonly string[]): Promise<void> {
  const result = await runCommand("flock", ["--no-fork", directory, "nice", "-n", "10", "go", ...args], {
    cwd: directory,
    env: { ...process.env, GOFLAGS: "-mod=mod", CGO_ENABLED: "1" },
    timeout: buildLimitMs,
  });
  if (result.code !== 0) {
    throw new Error(`go ${args.join(" ")} failed: ${result.errorText.slice(-2000)}`);
  }
}

/** Downloads a module and answers where its files are, read-only. */
export async function downloadModule(path: string, version: string): Promise<string> {
  const scratch = await mkdtemp(join(tmpdir(), "skl-module-"));
  try {
    // Outside any module: the one that is asked for is none of ours.
    const { code, text, errorText } = await runCommand(
      "go",
      ["mod", "download", "-json", `${path}@${version}`],
      {
        cwd: scratch,
        timeout: buildLimitMs,
      },
    );
    if (code !== 0) {
      throw new Error(`${path}@${version} cannot be downloaded: ${text}${errorText}`);
    }
    return (JSON.parse(text) as { readonly Dir: string }).Dir;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Go keeps modules read-only. */
export async function makeWritable(directory: string): Promise<void> {
  await mkdir(cache, { recursive: true });
  await runCommand("chmod", ["-R", "u+w", directory]);
}
