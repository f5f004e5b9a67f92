/** Work of clients while processes are killed: each thing tells by itself whether it was done once, whole and truly. */
import { once } from "node:events";

import { build } from "../../support/builds.ts";
import { channelText, hijackRequest, RawClient } from "../../support/raw-client.ts";
import type { Random } from "../../support/random.ts";
import type { Site } from "./site.ts";
import type { Expected } from "./verdict.ts";

/** Exit code that only commands of the storm have. */
const ownCode = 42;

/** A command that notes that it begins, prints, and ends. */
interface Job extends Expected {
  readonly token: string;
  readonly script: string;
}

/** Clients that do one thing after the other. */
export class Lane {
  readonly #site: Site;
  readonly #random: Random;
  readonly #name: string;
  #made = 0;
  #stage: string | undefined;

  constructor(site: Site, random: Random, name: string) {
    this.#site = site;
    this.#random = random;
    this.#name = name;
  }

  /** Does things until it is told to stop. */
  async work(stop: AbortSignal, builds: boolean): Promise<void> {
    const kinds = [
      ...[this.#attached, this.#attached, this.#detached, this.#detached, this.#lifecycle],
      ...[this.#exec, this.#exec, this.#execByApi, this.#execByApi, this.#runByApi],
      this.#policy,
      ...(builds ? [this.#build] : []),
    ];
    while (!stop.aborted) {
      await this.#random.pick(kinds).call(this);
      await this.#site.serves(stop);
    }
  }

  /** `docker run`, which is told its command's output and exit code. */
  async #attached(): Promise<void> {
    const job = this.#job();
    this.#site.mayRun(job.token, 1);
    const isRemoved = this.#random.percent(50);
    const { code, stdout } = await this.#site.docker(
      ...["run", ...(isRemoved ? ["--rm"] : []), ...this.#options(job.token)],
      ...["busybox", "sh", "-c", job.script],
    );
    const told = { code, output: stdout.toString() };
    this.#site.judge(isRemoved ? "run --rm" : "run", job.token, told, job);
    if (!isRemoved && code === job.code) {
      await this.#judgeLog("logs of run", job);
    }
  }

  /** `docker run -d`, with clients that wait for it and follow its log. */
  async #detached(): Promise<void> {
    const site = this.#site;
    const job = this.#job();
    site.mayRun(job.token, 1);
    const { code } = await site.docker(
      ...["run", "-d", ...this.#options(job.token), "busybox", "sh", "-c", job.script],
    );
    site.count("run -d", code === 0);
    if (code !== 0) {
      return;
    }
    const [waited, followed] = await Promise.all([
      site.docker("wait", job.token),
      site.docker("logs", "--follow", job.token),
    ]);
    const told = waited.code === 0 ? Number(waited.text) : null;
    site.judge("wait", job.token, { code: told, output: job.output }, job);
    const ended = told ?? (await this.#exitCode(job.token));
    if (ended === job.code) {
      const isWhole = followed.code === 0;
      site.judge(
        "logs -f",
        job.token,
        { code: isWhole ? job.code : null, output: followed.stdout.toString() },
        job,
      );
      await this.#judgeLog("logs", job);
    }
    await this.#mayRemove(job.token);
  }

  /** The log of a container that has ended by itself is whole, where it is told at all. */
  async #judgeLog(kind: string, job: Job): Promise<void> {
    const { code, stdout } = await this.#site.docker("logs", job.token);
    if (code === 0) {
      this.#site.judge(kind, job.token, { code: job.code, output: stdout.toString() }, job);
    }
  }

  /** Stops, starts and kills of a container that ends when it is told to. */
  async #lifecycle(): Promise<void> {
    const site = this.#site;
    const token = this.#token();
    let starts = 1;
    site.mayRun(token, starts);
    const script = `echo >> /marks/${token}; trap 'exit ${ownCode}' TERM; while :; do usleep 20000; done`;
    const begun = await site.docker(...["run", "-d", ...this.#options(token), "busybox", "sh", "-c", script]);
    site.count("run -d", begun.code === 0);
    for (let steps = this.#random.below(4); begun.code === 0 && steps > 0; steps--) {
      const verb = this.#random.pick(["stop", "start", "restart", "kill"]);
      if (verb === "start" || verb === "restart") {
        site.mayRun(token, ++starts);
      }
      const { code } = await site.docker(verb, token);
      site.count(verb, code === 0);
      if ((verb === "stop" || verb === "kill") && code === 0 && (await this.#status(token)) === "running") {
        site.violate(`${token} runs behind a ${verb} that was told as done`);
      }
    }
    await this.#mayRemove(token);
  }

  /** A container with a restart policy, whose command fails again and again. */
  async #policy(): Promise<void> {
    const site = this.#site;
    if (site.policies.size >= 4) {
      return;
    }
    const token = this.#token();
    const policy = this.#random.pick(["always", "unless-stopped", "on-failure", "on-failure:3"]);
    site.mayRun(token, Number.POSITIVE_INFINITY);
    const { code } = await site.docker(
      ...["run", "-d", `--restart=${policy}`, ...this.#options(token)],
      ...["busybox", "sh", "-c", `echo >> /marks/${token}; usleep 100000; exit ${ownCode}`],
    );
    site.count("run --restart", code === 0);
    if (code === 0) {
      site.policies.set(token, policy);
    }
  }

  /** `docker exec` in a container that stays. */
  async #exec(): Promise<void> {
    const stage = await this.#stageForExecs();
    if (stage === undefined) {
      return;
    }
    const job = this.#job();
    this.#site.mayRun(job.token, 1);
    const { code, stdout, errorText } = await this.#site.docker("exec", stage, "sh", "-c", job.script);
    this.#site.judge("exec", job.token, { code, output: stdout.toString() }, job);
    this.#leaveStageAfter(code === 0 || code === job.code ? "" : errorText);
  }

  /** An exec whose client looks at its code when its stream has ended, as the CLI does. */
  async #execByApi(): Promise<void> {
    const stage = await this.#stageForExecs();
    if (stage === undefined) {
      return;
    }
    const job = this.#job();
    this.#site.mayRun(job.token, 1);
    const told = await this.#site.client(`exec by the API, ${job.token}`, async (signal) => {
      try {
        return await this.#tellExec(stage, job, signal);
      } catch {
        return undefined;
      }
    });
    const { code = null, output = "" } = told ?? {};
    this.#site.judge("exec by the API", job.token, { code, output }, job);
    this.#leaveStageAfter(code === job.code ? "" : "not told");
  }

  async #tellExec(
    stage: string,
    { script }: Job,
    signal: AbortSignal,
  ): Promise<{ code: number | null; output: string } | undefined> {
    const { api, daemon } = this.#site;
    const created = await api.call("POST", `/containers/${stage}/exec`, {
      ...{ AttachStdout: true, AttachStderr: true, Cmd: ["sh", "-c", script] },
    });
    if (created.status !== 201) {
      return undefined;
    }
    const { Id } = created.json() as { Id: string };
    const client = new RawClient(daemon.socket);
    try {
      client.send(hijackRequest(`/v1.51/exec/${Id}/start`, { body: `{"Detach":false,"Tty":false}` }));
      await once(client.socket, "end", { signal }); // Rejects at a reset: the client knows.
      if (!/^HTTP\/1\.1 (101|200) /.test(client.header)) {
        return undefined;
      }
      const output = outputOf(client.body);
      const told = (await api.call("GET", `/exec/${Id}/json`)).json() as {
        readonly Running?: boolean;
        readonly ExitCode?: number | null;
      };
      // The CLI takes no code for 0.
      return told.Running === undefined ? undefined : { code: told.ExitCode ?? 0, output };
    } finally {
      client.close();
    }
  }

  /** Create, start, wait and logs, each a request, none of which is repeated. */
  async #runByApi(): Promise<void> {
    const { api } = this.#site;
    const job = this.#job();
    this.#site.mayRun(job.token, 1);
    const told = await this.#site.client(`run by the API, ${job.token}`, async () => {
      try {
        await api.create(
          {
            Cmd: ["sh", "-c", job.script],
            HostConfig: { NetworkMode: this.#network(), Binds: [`${this.#site.marks}:/marks`] },
          },
          job.token,
        );
        await api.start(job.token);
        const code = await api.wait(job.token);
        const log = await api.call("GET", `/containers/${job.token}/logs?stdout=1`);
        return log.status === 200 ? { code, output: outputOf(log.bytes) } : undefined;
      } catch {
        return undefined;
      }
    });
    this.#site.judge("run by the API", job.token, told ?? { code: null, output: "" }, job);
  }

  /** A build of two commands, each of which runs once where the build succeeds. */
  async #build(): Promise<void> {
    const site = this.#site;
    const token = this.#token();
    const count = `--mount=type=cache,id=${token},target=/count`;
    const dockerfile = `FROM busybox
RUN ${count} echo one >> /count/runs; : ${token}
RUN ${count} echo two >> /count/runs; cp /count/runs /both
`;
    const id = await site.client(`build ${token}`, async () => {
      try {
        return (await build(site.daemon.socket, dockerfile)).id;
      } catch {
        return undefined;
      }
    });
    site.count("build", id !== undefined);
    if (id === undefined) {
      return;
    }
    const { code, text } = await site.docker("run", "--rm", "--network=none", id, "cat", "/both");
    if (code === 0 && text !== "one\ntwo") {
      site.violate(`build ${token} ran ${JSON.stringify(text)}`);
    }
  }

  async #mayRemove(token: string): Promise<void> {
    if (!this.#random.percent(50)) {
      return;
    }
    const { code } = await this.#site.docker("rm", "--force", token);
    this.#site.count("rm -f", code === 0);
    const left = code === 0 ? await this.#status(token) : undefined;
    if (left !== undefined) {
      this.#site.violate(`${token} is ${left} behind a removal that was told as done`);
    }
  }

  async #stageForExecs(): Promise<string | undefined> {
    if (this.#stage === undefined) {
      const token = this.#token();
      this.#site.mayRun(token, 1);
      const script = `echo >> /marks/${token}; exec sleep 1000000`;
      const { code } = await this.#site.docker(
        ...["run", "-d", ...this.#options(token), "busybox", "sh", "-c", script],
      );
      this.#site.count("run -d", code === 0);
      this.#stage = code === 0 ? token : undefined;
    }
    return this.#stage;
  }

  #leaveStageAfter(failure: string): void {
    if (failure !== "") {
      this.#stage = undefined;
    }
  }

  /** Status of a container; undefined where it is not there, or nobody tells. */
  async #status(token: string): Promise<string | undefined> {
    const { code, text } = await this.#site.docker("inspect", "--format={{.State.Status}}", token);
    return code === 0 ? text : undefined;
  }

  async #exitCode(token: string): Promise<number | undefined> {
    const format = "{{.State.Status}} {{.State.ExitCode}}";
    const { code, text } = await this.#site.docker("inspect", `--format=${format}`, token);
    const [status, exitCode] = text.split(" ");
    return code === 0 && status === "exited" ? Number(exitCode) : undefined;
  }

  #job(): Job {
    const token = this.#token();
    const code = this.#random.pick([0, ownCode]);
    const slow = this.#random.below(60);
    const burst = this.#random.pick([0, 10, 1000, 20_000]);
    const pause = this.#random.pick([0, 1000, 10_000, 20_000]);
    const lines = Array.from({ length: slow }, (_, n) => `${n}\n`).join("");
    return {
      token,
      code,
      output: lines + `${token}\n`.repeat(burst),
      script: [
        `echo >> /marks/${token}`,
        `i=0; while [ $i -lt ${slow} ]; do echo $i; i=$((i+1)); usleep ${pause}; done`,
        `yes ${token} | head -n ${burst}`,
        `exit ${code}`,
      ].join("; "),
    };
  }

  #token(): string {
    return `storm-${this.#name}-${this.#made++}`;
  }

  #network(): string {
    return this.#random.pick(["none", "none", "bridge"]);
  }

  #options(name: string): string[] {
    return [`--name=${name}`, `--network=${this.#network()}`, `--volume=${this.#site.marks}:/marks`];
  }
}

/** Standard output of a multiplexed stream, to a client that does not look at how it ends. */
function outputOf(stream: Buffer): string {
  try {
    return channelText(stream, 1);
  } catch {
    return ""; // It ends within a frame.
  }
}
