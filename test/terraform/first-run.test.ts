/**
 * The ways of terraform/README.md from `apply` to the first `docker run`, from its own lines: Terraform with the stand-in
 * providers, the clouds' own programs as scripts, the rest before the simulated AWS and Azure.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { parse, stringify } from "yaml";

import { startAws } from "../simulators/aws/aws.ts";
import { startAzure } from "../simulators/azure/azure.ts";
import { runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { awsEnvironment, deniedCalls, leastPrivilege } from "../support/ecs-daemon.ts";
import { freePort } from "../support/free-port.ts";
import { inSoak } from "../support/soak.ts";
import { terraformPath } from "./hcl-module.ts";
import { skip, standInEnvironment } from "./terraform.ts";
import { scratchDirectory } from "../support/scratch.ts";

const text = readFileSync(join(checkout, "terraform/README.md"), "utf8");

/** The commands of a section, line by line. */
function commandsOf(heading: string): readonly string[] {
  const section = text.split(/^#{2,3} /m).find((each) => each.startsWith(heading)) ?? assert.fail(heading);
  return [...section.matchAll(/^ *```sh\n(.*?)^ *```$/gms)]
    .flatMap(([, block = ""]) => block.split("\n"))
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

/** A reader's place: the modules, programs of the clouds, and what the commands make. */
class Reader implements AsyncDisposable {
  readonly #folder: string;
  readonly #commands: readonly string[];
  readonly #resources: AsyncDisposableStack;
  #tried = 0;
  #place: string;
  #env: Readonly<Record<string, string>> = {};

  private constructor(folder: string, commands: readonly string[], resources: AsyncDisposableStack) {
    this.#folder = folder;
    this.#place = folder;
    this.#commands = commands;
    this.#resources = resources;
  }

  static async open(heading: string): Promise<Reader> {
    await using resources = new AsyncDisposableStack();
    const folder = scratchDirectory();
    const filter = (path: string): boolean => !path.includes("/.terraform");
    await cp(terraformPath(), join(folder, "terraform"), { recursive: true, filter });
    await mkdir(join(folder, "bin"));
    return new Reader(folder, commandsOf(heading), resources.move());
  }

  get config(): string {
    return join(this.#place, "sockerless.yaml");
  }

  get authority(): string {
    return join(this.#folder, "agent-ca.pem");
  }

  /** Gives the reader a program. @param body a shell's script */
  async have(name: string, body: string): Promise<void> {
    await writeFile(join(this.#folder, "bin", name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  }

  use(env: Readonly<Record<string, string>>): void {
    this.#env = { ...this.#env, ...env };
  }

  /** Runs the next commands, up to one that begins so, with words in place of those that a reader has to put there. */
  async until(beginning: string, words: Readonly<Record<string, string>> = {}): Promise<string> {
    const end = this.#commands.findIndex((each, at) => at >= this.#tried && each.startsWith(beginning));
    assert.ok(end >= 0, `no command begins with ${beginning}`);
    const next = this.#commands.slice(this.#tried, end);
    this.#tried = end;
    return await this.#run(next, words);
  }

  /** Runs the commands that are left. */
  async rest(words: Readonly<Record<string, string>> = {}): Promise<string> {
    const next = this.#commands.slice(this.#tried);
    this.#tried = this.#commands.length;
    return await this.#run(next, words);
  }

  async #run(commands: readonly string[], words: Readonly<Record<string, string>>): Promise<string> {
    let script = commands.join("\n");
    for (const [said, meant] of Object.entries(words)) {
      script = script.replaceAll(said, meant);
    }
    assert.doesNotMatch(script, /<[a-z ]+>/, "a reader's word is left");
    const {
      code,
      text: told,
      errorText,
    } = await runCommand("sh", ["-ec", `${script}\npwd >&2`], {
      cwd: this.#place,
      env: {
        ...(await standInEnvironment(this.#folder)),
        ...this.#env,
        PATH: `${join(this.#folder, "bin")}:${join(checkout, "bin")}:${process.env["PATH"]}`,
      },
      input: "yes\n",
    });
    assert.equal(code, 0, `${script}\n${told}\n${errorText}`);
    this.#place = errorText.trimEnd().split("\n").at(-1) ?? "";
    return told;
  }

  /** Has the configuration name what the simulated cloud has: the stand-in of the provider has made up names. */
  async meetCloud(section: string, ids: Readonly<Record<string, unknown>>): Promise<void> {
    const written = parse(await readFile(this.config, "utf8")) as Record<string, Record<string, unknown>>;
    const own = Object.keys(ids).filter((key) => !key.endsWith("endpoint"));
    assert.deepEqual(
      own.filter((key) => written[section]?.[key] === undefined),
      [],
      "the module's output has all of it",
    );
    const { backend } = written;
    await writeFile(this.config, stringify({ backend, [section]: { ...written[section], ...ids } }));
  }

  /** Starts what the command `sockerless serve …` starts, which is the next one, on sockets of its own. */
  async serve(): Promise<Daemon> {
    const line = this.#commands.find((each) => each.startsWith("sockerless serve")) ?? "";
    return this.#resources.use(
      await Daemon.start({ args: line.split(" ").slice(2), env: this.#env, cwd: this.#place }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** The way's end, which is the same on both clouds: without the agent's image nothing runs, and everybody is told why. */
async function runFirst(reader: Reader, cloud: string): Promise<void> {
  const daemon = await reader.serve();
  const remedy = new RegExp(`the agent's image \\S+ is not there: run \`sockerless ${cloud} push-agent\``);
  const refused = await daemon.docker("run", "--rm", "sockerless/hello");
  assert.equal(refused.code, 125);
  assert.match(refused.errorText, remedy);
  assert.match(daemon.output, new RegExp(`"level":"warn".*${remedy.source}.*no container will start`));
  assert.match(await reader.until("sockerless serve"), /^pushed: /m);
  const host = { "DOCKER_HOST=unix:///var/run/sockerless.sock": `DOCKER_HOST=${daemon.host}` };
  const serve = { "sockerless serve --config sockerless.yaml": "true" }; // It serves already, on other sockets.
  assert.match(await reader.rest({ ...serve, ...host }), /hello/i);
}

describe("the way from nothing to the first container", { skip }, () => {
  it("leads there on ECS", async () => {
    await using aws = await startAws();
    await using reader = await Reader.open("From `apply` to the first `docker run`\n");
    reader.use({
      ...awsEnvironment(await leastPrivilege(aws)),
      AWS_ENDPOINT_URL: aws.endpoint,
      SOCKERLESS_ECS_AGENT_CA: reader.authority,
      SOCKERLESS_ECS_LINGER: "1s",
    });
    await reader.have(
      "aws",
      'case "$*" in "iam put-role-policy "*) test -s policy.json ;; *) exit 1 ;; esac',
    );
    await reader.until("sockerless ecs push-agent", { "<role>": "sockerless-backend" });
    const { endpoint: _, ...ids } = aws.config;
    await reader.meetCloud("ecs", ids);
    await runFirst(reader, "ecs");
    assert.deepEqual(deniedCalls(aws), []);
  });

  it("leads there on Azure", inSoak, async () => {
    await using azure = await startAzure();
    await using reader = await Reader.open("From `apply` to the first `docker run` on Azure\n");
    const { subscriptionId, resourceGroup } = azure.subscription;
    const identity = `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/containers`;
    const { entra, registry } = azure;
    entra.assign(
      entra.createIdentity(identity),
      ["Microsoft.ContainerRegistry/registries/pull/read"],
      registry.id,
    );
    reader.use({
      ...azure.environmentFor(),
      SOCKERLESS_ACA_AGENT_CA: reader.authority,
      SOCKERLESS_ACA_LINGER: "1s",
    });
    await reader.have(
      "az",
      `case "$*" in "account show "*) echo ${subscriptionId} ;; "ad signed-in-user show "*) echo ${entra.administrator.objectId} ;; *) exit 1 ;; esac`,
    );
    await reader.until("sockerless aca push-agent", {
      "<address of this machine>:<port>": `${azure.hostAddress}:${await freePort()}`,
    });
    const { registry_username: _name, registry_password: _password, ...ids } = azure.config;
    await reader.meetCloud("aca", { ...ids, registry_id: registry.id, identity });
    await runFirst(reader, "aca");
  });
});
