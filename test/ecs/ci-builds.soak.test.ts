/**
 * The recipes of docs/building.md for a CI job that is a task: it builds by the frontend's TCP port, pushes, and runs what
 * it has built, by the lines that stand there.
 */
import assert from "node:assert/strict";
import { copyFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { parse } from "yaml";

import { compileBuilder } from "../support/builds.ts";
import { makeCertificates } from "../support/certificates.ts";
import { findPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildLimitMs, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxImage } from "../support/images.ts";
import { registryUser, TestRegistry } from "../support/registry.ts";
import { type TarEntry, tarOf } from "../support/tar.ts";
import { until } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const name = "sockerless.internal";
describe("a CI job that is a task", { timeout: pluginLimitMs }, () => {
  let document: string;
  /** Variables of a job, as the recipes tell them. */
  let env: Readonly<Record<string, string>>;

  before(compileBuilder, { timeout: buildLimitMs });
  /** `images` is the registry of the images that jobs have and build on, `registry` the one that they push to. */
  const { ecs, images, registry } = duringTests(async (resources) => {
    document = await readFile(join(checkout, "docs/building.md"), "utf8");
    const directory = scratchDirectory();
    const images = resources.use(await TestRegistry.start());
    const registry = resources.use(await TestRegistry.start({ credentials: true }));
    const { server, client } = await makeCertificates(directory, undefined, [name]);
    const tls = ["--tlscacert", server.ca, "--tlscert", server.cert, "--tlskey", server.key];
    const args = ["--host", "tcp://0.0.0.0:0", ...tls];
    const ecs = resources.use(await EcsDaemon.start({ leastPrivilege: true, daemon: { args } }));
    const port = await until(() => /"address":"tcp:\/\/0\.0\.0\.0:(\d+)"/.exec(ecs.daemon.output)?.[1]);
    env = { DOCKER_HOST: `tcp://${name}:${port}`, DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: "/certs" };

    await images.push("base", "1", await busyboxImage());
    await ecs.daemon.ok("pull", `${images.host}/base:1`);
    await ecs.daemon.ok("tag", `${images.host}/base:1`, "busybox");
    await copyFile(client.cert, join(directory, "cert.pem"));
    await copyFile(client.key, join(directory, "key.pem"));
    const filling = /^tar --create .*$/m.exec(document)?.[0] ?? assert.fail("no line fills the volume");
    const filled = await runCommand("sh", ["-ec", filling], { cwd: directory, env: ecs.daemon.clientEnv });
    assert.equal(filled.code, 0, filled.errorText);
    return { ecs, images, registry };
  });

  /** Makes an image of a job: the docker CLI, with a plugin where there is one, and sources. */
  async function jobImage(tag: string, plugin?: string): Promise<string> {
    const busybox = await busyboxImage();
    const files: TarEntry[] = [
      { name: "usr/local/bin/docker", mode: 0o755, content: await readFile("/usr/local/bin/docker") },
      {
        name: "src/Dockerfile",
        content: `FROM ${images.host}/base:1\nRUN echo built > /made\nWORKDIR /app\nCOPY --chmod=755 test.sh .\n`,
      },
      { name: "src/test.sh", content: "#!/bin/sh\ncat /made && echo tested\n" },
    ];
    if (plugin !== undefined) {
      const path = "usr/local/lib/docker/cli-plugins/docker-buildx";
      files.push({ name: path, mode: 0o755, content: await readFile(plugin) });
    }
    const image = { ...busybox, layers: [...busybox.layers, await tarOf(files)] };
    await images.push("job", tag, image);
    return `${images.host}/job:${tag}`;
  }

  /** Runs the lines of a job in a task, and answers what they print. */
  async function job(
    image: string,
    lines: readonly string[],
    variables: Readonly<Record<string, string>>,
  ): Promise<string> {
    const router = ecs.aws.services.network.subnets()[0]?.routerAddress;
    const given = Object.entries({ ...env, ...variables }).flatMap(([key, value]) => [
      "--env",
      `${key}=${value}`,
    ]);
    const mounts = ["--add-host", `${name}:${router}`, "--volume", "docker-certs:/certs:ro"];
    const place = ["--workdir", "/src", image, "sh", "-ec", lines.join("\n")];
    return await ecs.daemon.ok("run", "--quiet", "--rm", ...mounts, ...given, ...place);
  }

  /** The recipe that has a job with one key. */
  function recipe(key: string): Recipe {
    const blocks = [...document.matchAll(/^```yaml\n(.*?)^```$/gms)].map(
      ([, block = ""]) => parse(block) as Recipe,
    );
    return blocks.find((block) => key in block) ?? assert.fail(`no recipe has ${key}`);
  }

  it("of GitLab builds, pushes and runs without buildx", async () => {
    const { script = [] } = recipe("build").build ?? {};
    const repository = `${registry.host}/group/project`;
    const output = await job(await jobImage("gitlab"), script, {
      CI_REGISTRY: registry.host,
      CI_REGISTRY_USER: registryUser.username,
      CI_REGISTRY_PASSWORD: registryUser.password,
      IMAGE: `${repository}:0123abcd`,
    });
    assert.match(output, /Successfully built /);
    assert.match(output, /\n0123abcd: digest: sha256:/);
    assert.match(output, /\nbuilt\ntested$/);
    await assertIsPushed("group/project", "0123abcd");
  });

  it("of GitHub builds, pushes and runs with buildx", async (t) => {
    const buildx = await findPlugin("buildx");
    if ("missing" in buildx) {
      t.skip(buildx.missing);
      return;
    }
    const { steps = [] } = recipe("jobs").jobs?.build ?? {};
    const lines = steps.flatMap(({ run }) =>
      run === undefined ? [] : [run.replaceAll("ghcr.io", registry.host)],
    );
    const output = await job(await jobImage("github", buildx.path), lines, {
      IMAGE: `${registry.host}/owner/repository:4567`,
      TOKEN: registryUser.password,
      GITHUB_ACTOR: registryUser.username,
    });
    assert.match(output, /\nbuilt\ntested$/);
    await assertIsPushed("owner/repository", "4567");
  });

  it("needs no more than the documented policy, and leaves no container of its build", async () => {
    assert.deepEqual(ecs.deniedCalls, []);
    assert.equal(await ecs.daemon.ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build"), "");
    assert.equal(await ecs.daemon.ok("ps", "--all", "--quiet"), "");
  });

  async function assertIsPushed(repository: string, tag: string): Promise<void> {
    const { username, password } = registryUser;
    const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
    const answer = await fetch(`http://${registry.host}/v2/${repository}/tags/list`, {
      headers: { authorization },
    });
    assert.deepEqual(((await answer.json()) as { readonly tags: string[] }).tags, [tag]);
  }
});

/** A file of GitLab's or of GitHub's. */
interface Recipe {
  readonly build?: { readonly script: readonly string[] };
  readonly jobs?: { readonly build: { readonly steps: readonly { readonly run?: string }[] } };
}
