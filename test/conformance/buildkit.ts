/** BuildKit's own tests of Dockerfiles, by its Go module: they speak its control API, as buildx does. */
import { cp, copyFile, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { checkout } from "../support/daemon.ts";
import { buildForeignProgram } from "../support/foreign-programs.ts";
import { tarOf } from "../support/tar.ts";
import { cached, fingerprint } from "./cache.ts";
import { busyboxRoot, path, unpackedImages } from "./frozen-images.ts";
import { downloadModule, goIn, makeWritable } from "./moby.ts";

/** The release that the builder is made of. */
export const buildkitVersion = "v0.33.1";

const folder = `buildkit-${buildkitVersion}`;
const worker = join(checkout, "test/conformance/buildkit/worker_test.go");

/** The directory of the tests in {@link buildkitSource}. */
export const buildkitPackage = "frontend/dockerfile";

/** The names of {@link buildkitImages}, as on Docker Hub. */
export const buildkitImageNames = [
  "busybox:latest",
  "busybox:stable",
  "busybox:stable-musl",
  "alpine:latest",
];

/** The unpacked source, whose tests ask one worker: that of {@link worker}. */
export async function buildkitSource(): Promise<string> {
  const change = fingerprint(await readFile(new URL(import.meta.url)), await readFile(worker));
  return await cached(`${folder}/source-${change}`, async (temporary) => {
    await cp(await downloadModule("github.com/moby/buildkit", buildkitVersion), temporary, {
      recursive: true,
    });
    await makeWritable(temporary);
    await copyFile(worker, join(temporary, buildkitPackage, "worker_test.go"));
    await replaceIn(
      join(temporary, buildkitPackage, "dockerfile_test.go"),
      "workers.InitOCIWorker()\n\t\tworkers.InitContainerdWorker()",
      "// That of worker_test.go is registered.",
    );
    // No registry is reachable: those that there are images for are put into the mirror by the worker.
    await replaceIn(
      join(temporary, "util/testutil/integration/run.go"),
      "for to, from := range images {",
      "for to, from := range map[string]string(nil) {",
    );
  });
}

async function replaceIn(file: string, text: string, by: string): Promise<void> {
  const before = await readFile(file, "utf8");
  if (!before.includes(text)) {
    throw new Error(`${file} has no ${text}`);
  }
  await writeFile(file, before.replace(text, by));
}

/** The test binary. */
export async function buildkitSuite(): Promise<string> {
  const source = await buildkitSource();
  return await cached(`${folder}/suites/${fingerprint(source)}.test`, (temporary) =>
    goIn(source, ["test", "-c", "-o", temporary, `./${buildkitPackage}`]),
  );
}

/** Directories of `buildkitd` and `buildctl`, as in PATH. */
export async function buildkitPrograms(): Promise<string> {
  const directories: string[] = [];
  for (const name of ["buildkit", "buildctl"] as const) {
    const program = await buildForeignProgram(name);
    if ("missing" in program) {
      throw new Error(program.missing);
    }
    directories.push(dirname(program.path));
  }
  return directories.join(":");
}

/** A directory with the images, unpacked. */
export async function buildkitImages(): Promise<string> {
  return await unpackedImages("buildkit-images", [], async () => {
    const root = await busyboxRoot();
    const alpine = await tarOf([
      { name: "etc/alpine-release", content: "3.22.0\n" },
      { name: "etc/os-release", content: "ID=alpine\n" },
    ]);
    const config = { Env: [path], Cmd: ["sh"] };
    return [
      { image: { layers: [root], config }, tags: ["busybox:latest", "busybox:stable"] },
      {
        image: { layers: [root], config: { ...config, Labels: { libc: "musl" } } },
        tags: ["busybox:stable-musl"],
      },
      { image: { layers: [root, alpine], config: { ...config, Cmd: ["/bin/sh"] } }, tags: ["alpine:latest"] },
    ];
  });
}
