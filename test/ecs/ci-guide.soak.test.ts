/**
 * The commands of docs/ci-on-fargate.md, as they stand there: every line of its blocks of shell, on an account that the
 * real Terraform makes with the stand-in for AWS's provider, with small images by the guide's names. Each test goes on
 * where the one before it ended, as a reader does.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import { join } from "node:path";
import { text as textOf } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";

import { parse, stringify } from "yaml";

import { type Aws, startAws } from "../simulators/aws/aws.ts";
import { makeCertificates } from "../support/certificates.ts";
import { runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { awsEnvironment, deniedCalls, leastPrivilege } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { listenHere } from "../support/listen-here.ts";
import { untilTrue } from "../support/until.ts";
import { terraformPath } from "../terraform/hcl-module.ts";
import { skip, standInEnvironment } from "../terraform/terraform.ts";
import { scratchDirectory } from "../support/scratch.ts";

const guide = readFileSync(join(checkout, "docs/ci-on-fargate.md"), "utf8");

/** The guide's blocks of shell as their commands: lines, with those that go on in the next one. */
const blocks = [...guide.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = ""]) =>
  block.split(/(?<![\\|])\n/).filter((command) => command !== ""),
);
const tried = new Set<string>();

/** The commands of the block that has one of this beginning; they count as tried. */
function block(beginning: string): readonly string[] {
  const found =
    blocks.find((commands) => commands.some((command) => command.startsWith(beginning))) ??
    assert.fail(`no block has ${beginning}`);
  for (const command of found) {
    tried.add(command);
  }
  return found;
}

/** The one command of a block that begins so. */
function command(beginning: string): string {
  return block(beginning).find((each) => each.startsWith(beginning)) ?? "";
}

/** The guide's images, and what each does in place of its own program. */
const images: Readonly<Record<string, string>> = {
  "postgres:16": 'CMD ["sleep", "1000"]',
  "alpine/git": 'ENTRYPOINT ["sh", "-c", "mkdir /builds/project && echo cloned > /builds/project/source"]',
  "job-image": 'ENTRYPOINT ["sh", "-c", "cat source; echo tested > report.xml"]',
  "ghcr.io/owner/runner-image": 'ENTRYPOINT ["sh", "-c", "echo runs $JITCONFIG; sleep 1000"]',
};

/** A runner's configuration as GitHub answers it. */
const jitConfig = Buffer.from('{".runner": "e30="}').toString("base64");

describe("the commands of the guide to CI on Fargate", { skip }, () => {
  const resources = new AsyncDisposableStack();
  let aws: Aws;
  let daemon: Daemon;
  /** Directory of what the test makes, and within it the one in which the guide's commands are run. */
  let folder: string;
  let place: string;
  let env: Record<string, string>;
  const ok = (...args: string[]): Promise<string> => daemon.ok(...args);

  /** Environment of a shell of the guide's reader. */
  const readersEnv = (): NodeJS.ProcessEnv => {
    const PATH = `${join(checkout, "bin")}:${process.env["PATH"]}`;
    return { ...(daemon?.clientEnv ?? process.env), ...env, PATH };
  };
  /** Runs commands as one script, to its end. */
  const run = async (commands: readonly string[], input = ""): Promise<string> => {
    const options = { env: readersEnv(), cwd: place, input };
    const { code, text, errorText } = await runCommand("sh", ["-ec", commands.join("\n")], options);
    assert.equal(code, 0, `${text}\n${errorText}`);
    return text;
  };
  /** Runs a command that does not end, and does something again and again until the command has told what it looks for. */
  const follow = async (line: string, wanted: RegExp, again: () => Promise<unknown>): Promise<void> => {
    const child = spawn("sh", ["-ec", `exec ${line}`], { env: readersEnv(), cwd: place });
    const ended = once(child, "close");
    let told = "";
    child.stdout.on("data", (chunk: Buffer) => {
      told += chunk.toString();
    });
    try {
      await untilTrue(async () => {
        await again();
        return wanted.test(told);
      });
    } finally {
      child.kill();
      await ended;
    }
  };

  before(async () => {
    folder = scratchDirectory();
    place = folder;
    await cp(terraformPath(), join(folder, "terraform"), {
      recursive: true,
      filter: (path) => !path.includes("/.terraform"),
    });
    aws = resources.use(await startAws());
    env = {
      ...awsEnvironment(await leastPrivilege(aws)),
      AWS_ENDPOINT_URL: aws.endpoint,
      SOCKERLESS_ECS_AGENT_CA: join(folder, "agent-ca.pem"),
      SOCKERLESS_ECS_LINGER: "5s",
      SOCKERLESS_ECS_DRAIN_TIMEOUT: "1s",
    };
  });
  after(() => resources.disposeAsync());

  it("make an account's resources, a configuration and a policy", async () => {
    const commands = block("terraform init");
    const options = { env: await standInEnvironment(folder), cwd: folder, input: "yes\n" };
    const { code, text, errorText } = await runCommand("sh", ["-ec", commands.join("\n")], options);
    assert.equal(code, 0, `${text}\n${errorText}`);
    place = join(folder, "terraform/environments/ecs-test");

    const { Statement } = JSON.parse(await readFile(join(place, "policy.json"), "utf8")) as {
      readonly Statement: readonly { readonly Sid: string }[];
    };
    const documented = aws.fillPolicy(
      await readFile(join(checkout, "deploy/iam/backend-policy.json"), "utf8"),
    );
    const names = (statements: readonly { readonly Sid?: string }[]) =>
      statements.map(({ Sid }) => Sid).sort();
    assert.deepEqual(names(Statement), names(documented.Statement));

    // The same things have other IDs in the simulated account.
    const file = join(place, "sockerless.yaml");
    const { backend, ecs } = parse(await readFile(file, "utf8")) as Record<string, Record<string, unknown>>;
    const { endpoint: _, ...ids } = aws.config;
    assert.deepEqual(
      Object.keys(ids).filter((key) => ecs?.[key] === undefined),
      [],
    );
    await writeFile(file, stringify({ backend, ecs: { ...ecs, ...ids } }));
  });

  it("bring the agent there, serve, and run a first container", async () => {
    const commands = block("sockerless serve");
    const [push = "", serve = "", host = "", ...rest] = commands;
    assert.match(await run([push]), /^pushed: /);
    const [program, verb, ...args] = serve.split(" ");
    assert.deepEqual([program, verb], ["sockerless", "serve"]);
    daemon = resources.use(await Daemon.start({ args, env, cwd: place }));
    assert.equal(host, "export DOCKER_HOST=unix:///var/run/sockerless.sock"); // The tests' is elsewhere.
    assert.match(await run(rest), /hello/i);

    await ok("load", "--input", await busyboxArchiveFile());
    for (const [name, change] of Object.entries(images)) {
      await ok("create", "--name", "template", "busybox");
      await ok("commit", "--change", change, "template", name);
      await ok("rm", "template");
    }
  });

  it("are a job of GitLab's by hand", async () => {
    assert.match(await run(block("docker network create ci-42")), /^cloned$/m);
    assert.equal(await ok("ps", "--all", "--quiet"), "");
    assert.equal(await ok("volume", "ls", "--quiet"), "");
  });

  it("are a job of any script", async () => {
    await mkdir(join(folder, "job"));
    const before = place;
    place = join(folder, "job");
    await writeFile(join(place, "source"), "brought\n");
    const text = await run(block("docker create --name job"));
    assert.match(text, /^brought$/m);
    assert.match(text, /^exit 0$/m);
    assert.equal(await readFile(join(place, "report.xml"), "utf8"), "tested\n");
    place = before;
  });

  it("are a runner of GitHub's, and what to watch of it", async () => {
    await using github = await startGitHub(folder);
    env["CURL_HOME"] = folder;
    env["GITHUB_TOKEN"] = "github_pat_1";
    const commands = block("curl ").map((each) => each.replaceAll("OWNER", "owner"));
    const runner = run(commands);
    runner.catch(() => {});
    await untilTrue(async () => {
      const { text } = await daemon.docker("logs", "github-runner-1");
      return text.includes(`runs ${jitConfig}`);
    });
    assert.deepEqual(github.asked, [
      {
        call: "POST /repos/owner/REPO/actions/runners/generate-jitconfig",
        authorization: "Bearer github_pat_1",
        body: { name: "github-runner-1", runner_group_id: 1, labels: ["fargate"] },
      },
    ]);

    const watched = block("sockerless why").filter((each) => !/^(docker events|sockerless gc)/.test(each));
    const text = await run(watched);
    assert.match(text, /^github-runner-1 Up /m);
    assert.match(text, /^github-runner-1 is running$/m);

    await follow(command("docker events --filter event=die"), /^failing 3$/m, () =>
      daemon.docker("run", "--rm", "--name=failing", "busybox", "sh", "-c", "exit 3"),
    );
    aws.quotas.fargateSpotVcpus = 2; // The runner has them.
    await follow(command("docker events --filter event=start_waits"), /^waiting .*vCPU/m, async () => {
      const waiting = daemon.docker("run", "--rm", "--name=waiting", "busybox", "true");
      await untilTrue(async () => /\(waits: /.test(await ok("ps", "--all", "--filter=name=waiting")));
      await ok("rm", "--force", "waiting");
      await waiting;
    });
    await ok("rm", "--force", "github-runner-1");
    await assert.rejects(runner); // Its exit code is that of a killed program.
  });

  it("remove what killed jobs leave, and tell what a lost instance left", async () => {
    await ok("create", "--name", "left", "busybox");
    await ok("network", "create", "left");
    const [containers = "", networks = ""] = [
      ...guide.matchAll(/`(docker (?:container|network) prune.*?)`/g),
    ].map(([, prune = ""]) => prune);
    assert.doesNotMatch(await run([containers], "y\n"), /Deleted Containers/); // It is of today.
    assert.match(await run([networks], "y\n"), /^left$/m);
    await ok("rm", "left");
    await daemon.shutDown();
    const collect = command("sockerless gc");
    env["SOCKERLESS_STATE_DIR"] = daemon.stateDir;
    assert.equal(await run([collect]), ""); // Nothing is lost.
  });

  it("need no more than the documented policy", () => {
    assert.deepEqual(deniedCalls(aws), []);
  });

  it("are all of the guide's", () => {
    assert.deepEqual(
      blocks.flat().filter((each) => !tried.has(each)),
      [],
    );
  });
});

/** A call that GitHub's stand-in was asked. */
interface GitHubCall {
  readonly call: string;
  readonly authorization: string | undefined;
  readonly body: unknown;
}

/**
 * Starts a stand-in for GitHub's API of runners, which curl takes for api.github.com.
 *
 * @param directory gets the certificate and curl's settings, for `CURL_HOME`
 */
async function startGitHub(directory: string): Promise<AsyncDisposable & { readonly asked: GitHubCall[] }> {
  const { server: files } = await makeCertificates(directory, "serverAuth", ["api.github.com"]);
  const asked: GitHubCall[] = [];
  const [cert, key] = await Promise.all([readFile(files.cert), readFile(files.key)]);
  const server = createServer({ cert, key }, (request, response) => {
    void textOf(request).then((body) => {
      const { authorization } = request.headers;
      asked.push({ call: `${request.method} ${request.url}`, authorization, body: JSON.parse(body) });
      const runner = { id: 23, name: "github-runner-1", os: "unknown", status: "offline", busy: false };
      response.writeHead(201, { "content-type": "application/json; charset=utf-8" });
      response.end(JSON.stringify({ runner, encoded_jit_config: jitConfig }, undefined, 2));
    });
  });
  const port = await listenHere(server);
  await writeFile(
    join(directory, ".curlrc"),
    `cacert = "${files.ca}"\nconnect-to = "api.github.com:443:127.0.0.1:${port}"\n`,
  );
  return {
    asked,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
