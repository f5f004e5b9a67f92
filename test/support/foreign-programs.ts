/** Programs of others, built from their Go modules and kept outside the checkout: it takes minutes. */
import { createHash } from "node:crypto";
import { access, mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

import { runFetching } from "./command.ts";
import { checkout } from "./daemon.ts";

/** Modules of test/programs name their versions. */
const programs = {
  buildkit: {
    module: "buildkit",
    file: "buildkitd",
    package: "github.com/moby/buildkit/cmd/buildkitd",
    version: /moby\/buildkit (v\S+)/,
    stamp: "github.com/moby/buildkit/version.Version",
  },
  buildctl: {
    module: "buildkit",
    file: "buildctl",
    package: "github.com/moby/buildkit/cmd/buildctl",
    version: /moby\/buildkit (v\S+)/,
    stamp: "github.com/moby/buildkit/version.Version",
  },
  frontend: {
    module: "buildkit",
    file: "dockerfile-frontend",
    package: "github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend",
    version: /moby\/buildkit (v\S+)/,
    stamp: "main.Version",
  },
  buildx: {
    module: "buildx",
    file: "docker-buildx",
    package: "github.com/docker/buildx/cmd/buildx",
    version: /docker\/buildx (v\S+)/,
    stamp: "github.com/docker/buildx/version.Version",
  },
  "buildx-0.12": {
    module: "buildx-0.12",
    file: "docker-buildx",
    package: "github.com/docker/buildx/cmd/buildx",
    version: /docker\/buildx (v\S+)/,
    stamp: "github.com/docker/buildx/version.Version",
  },
  act: {
    module: "act",
    file: "act",
    package: "github.com/nektos/act",
    version: /nektos\/act (v\S+)/,
    stamp: "main.Version",
  },
  drone: {
    module: "drone",
    file: "drone-runner-docker",
    package: "github.com/drone-runners/drone-runner-docker",
    version: /drone-runner-docker (v\S+)/,
    stamp: "main.Version",
  },
  compose: {
    module: "compose",
    file: "docker-compose",
    package: "github.com/docker/compose/v2/cmd",
    version: /docker\/compose\/v2 (v\S+)/,
    stamp: "github.com/docker/compose/v2/internal.Version",
  },
  "testcontainers-go": {
    module: "testcontainers-go",
    file: "testcontainers-build",
    package: "./main.go",
    version: /testcontainers-go (v\S+)/,
    stamp: "main.Version",
  },
} as const;

const caches = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sockerless");

/** Milliseconds that building one may take: hundreds of packages, one after the other. */
export const programLimitMs = 20 * 60_000;

/** A program's place, or why there is none: no network for its modules, no Go. */
export type ForeignProgram = { readonly path: string } | { readonly missing: string };

/** The path of a program, which is built where it is not there yet. */
export async function buildForeignProgram(name: keyof typeof programs): Promise<ForeignProgram> {
  const program = programs[name];
  const module = join(checkout, "test/programs", program.module);
  const cache = join(caches, name);
  const description = await readFile(join(module, "go.mod"), "utf8");
  const version = program.version.exec(description)?.[1] ?? "";
  const source = program.package.startsWith("./") ? await readFile(join(module, program.package)) : "";
  const digest = createHash("sha256").update(description).update(source).digest("hex").slice(0, 16);
  const path = join(cache, digest, program.file);
  if (await isThere(path)) {
    return { path };
  }
  await mkdir(join(cache, digest), { recursive: true });
  const scratch = await mkdtemp(join(cache, "build-"));
  try {
    const output = join(scratch, program.file);
    const flags = `-s -w -X ${program.stamp}=${version}`;
    const args = ["build", "-trimpath", "-ldflags", flags, "-o", output, program.package];
    // Not by two files of tests at once: the second one has it from Go's cache.
    const built = await runFetching("flock", ["--no-fork", module, "nice", "go", ...args], {
      cwd: module,
      env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-p=1" },
      timeout: programLimitMs,
    }).catch((error: unknown) => ({ code: -1, errorText: String(error) }));
    if (built.code !== 0) {
      return { missing: `${program.file} ${version} cannot be built: ${built.errorText.slice(-500)}` };
    }
    await rename(output, path);
    return { path };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
