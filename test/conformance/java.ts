/** Clients of Docker in Java, by Maven: docker-java's own tests and a tour of testcontainers, with stand-ins for their images. */
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { buildForeignProgram } from "../support/foreign-programs.ts";
import type { FixtureImage } from "../support/images.ts";
import { buildProgram } from "../support/programs.ts";
import { type TarEntry, tarOf } from "../support/tar.ts";
import { cached, fingerprint } from "./cache.ts";
import { debianRoot } from "./debian-root.ts";
import { busyboxRoot, path, unpackedImages } from "./frozen-images.ts";
import { ryukImage, webImage } from "./testcontainers.ts";

const source = join(checkout, "test/programs/java");

/** Programs that build and run them, with Debian's packages. */
export const javaPrograms = { mvn: "maven", javac: "default-jdk-headless" };

/** The suites: packages of tests, and the endings of their classes' names. */
const packages = {
  "docker-java": ["com.github.dockerjava", "(IT|ITest)"],
  "testcontainers-java": ["sockerless.tour", "Tour"],
} as const;

/** A suite that {@link javaCommand} runs. */
export type JavaSuite = keyof typeof packages;

/**
 * The command of a suite.
 *
 * @param skipped names of tests that are left out
 * @param only a pattern for the names of those that run
 */
export async function javaCommand(
  suite: JavaSuite,
  skipped: readonly string[],
  only: string | undefined,
): Promise<string[]> {
  const built = await javaProgram();
  const classPath = ["classes", "docker-java-tests", "libraries/*"]
    .map((name) => join(built, name))
    .join(":");
  return [
    ...["java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-classpath", classPath, "sockerless.Run"],
    ...packages[suite],
    skipped.join(","),
    ...(only === undefined ? [] : [only]),
  ];
}

/** A directory with docker-java and what it needs. */
export async function javaLibraries(): Promise<string> {
  return join(await javaProgram(), "libraries");
}

/** A directory with the classes, docker-java's tests and the libraries of both. */
async function javaProgram(): Promise<string> {
  const files = (await readdir(source, { recursive: true, withFileTypes: true }))
    .filter((file) => file.isFile())
    .map((file) => join(file.parentPath, file.name))
    .toSorted();
  const version = fingerprint(...(await Promise.all(files.map((file) => readFile(file)))));
  return await cached(`java-${version}`, async (temporary) => {
    const project = await mkdtemp(join(tmpdir(), "skl-java-"));
    try {
      await cp(source, project, { recursive: true });
      const args = ["--batch-mode", "--no-transfer-progress", "--quiet", "compile"];
      const { code, text, errorText } = await runCommand("mvn", args, { cwd: project, timeout: 900_000 });
      if (code !== 0) {
        throw new Error(`Maven cannot build test/programs/java: ${(text + errorText).slice(-2000)}`);
      }
      // The cache may be on another file system than the project.
      await cp(join(project, "target"), temporary, { recursive: true });
    } finally {
      await rm(project, { recursive: true, force: true });
    }
  });
}

/** A DOCKER_CONFIG of a client that has compose and buildx. */
export async function pluginsConfig(): Promise<string> {
  const [compose, buildx] = [await foreignProgram("compose"), await foreignProgram("buildx")];
  return await cached(`docker-config-${fingerprint(compose, buildx)}`, async (temporary) => {
    await mkdir(join(temporary, "cli-plugins"), { recursive: true });
    await symlink(compose, join(temporary, "cli-plugins/docker-compose"));
    await symlink(buildx, join(temporary, "cli-plugins/docker-buildx"));
  });
}

async function foreignProgram(name: "buildx" | "compose"): Promise<string> {
  const built = await buildForeignProgram(name);
  if ("missing" in built) {
    throw new Error(built.missing);
  }
  return built.path;
}

/** A directory with the images of both suites, unpacked. */
export async function javaImages(): Promise<string> {
  const ryuk = await readFile(await buildProgram("ryuk"));
  const compose = await readFile(await foreignProgram("compose"));
  const modules = ["./java.js", "./testcontainers.js"].map((name) => new URL(name, import.meta.url));
  const inputs = [ryuk, compose, ...(await Promise.all(modules.map((module) => readFile(module))))];
  return await unpackedImages("java-images", inputs, async () => {
    const root = await busyboxRoot();
    const debian = await debianRoot();
    const program = async (name: string, at: string): Promise<TarEntry> => ({
      name: at,
      mode: 0o755,
      content: await readFile(await whereIs(name)),
    });
    const shell: FixtureImage = { layers: [root], config: { Env: [path], Cmd: ["sh"] } };
    const docker = await tarOf([
      await program("docker", "usr/local/bin/docker"),
      ...["usr/local/libexec/", "usr/local/libexec/docker/", "usr/local/libexec/docker/cli-plugins/"].map(
        (name): TarEntry => ({ name, type: "directory" }),
      ),
      { name: "usr/local/libexec/docker/cli-plugins/docker-compose", mode: 0o755, content: compose },
    ]);
    const registry = await tarOf([
      await program("docker-registry", "usr/bin/registry"),
      { name: "etc/registry.yml", content: registrySettings },
    ]);
    return [
      { image: shell, tags: ["alpine:latest", "alpine:3.17", "busybox:latest"] },
      { image: await webImage(root), tags: ["nginx:alpine"] },
      { image: await ryukImage(ryuk), tags: ["testcontainers/ryuk:0.14.0"] },
      {
        image: { layers: [debian, docker], config: { Env: [path], Entrypoint: ["docker"] } },
        tags: ["docker:24.0.2"],
      },
      {
        image: { layers: [root, await tarOf([socat])], config: { Env: [path], Entrypoint: ["socat"] } },
        tags: ["alpine/socat:1.7.4.3-r0"],
      },
      {
        image: {
          layers: [debian, registry],
          config: { Env: [path], Entrypoint: ["registry"], Cmd: ["serve", "/etc/registry.yml"] },
        },
        tags: ["registry:2"],
      },
    ];
  });
}

/** Does what testcontainers asks socat for: `TCP-LISTEN:PORT,… TCP:HOST:PORT`. */
const socat: TarEntry = {
  name: "bin/socat",
  mode: 0o755,
  content: `#!/bin/sh
port=\${1#TCP-LISTEN:} to=\${2#TCP:}
exec nc -ll -p "\${port%%,*}" -e nc "\${to%:*}" "\${to##*:}"
`,
};

/** The rest comes by its variables. */
const registrySettings = `{version: "0.1", storage: {filesystem: {rootdirectory: /var/lib/registry}}, http: {addr: ":5000"}}\n`;

async function whereIs(program: string): Promise<string> {
  const { text } = await runCommand("sh", ["-c", `command -v ${program}`]);
  return text.trim();
}
