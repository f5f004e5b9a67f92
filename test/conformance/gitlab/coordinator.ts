/**
 * The coordinator of GitLab Runner: what GitLab's API has for runners (jobs, their logs, artifacts) and Git's protocol for
 * the sources of one project. Jobs are given out one after the other, or so many at once.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

import type { Job } from "./jobs.ts";

/** A job's end. */
export interface JobEnd {
  readonly status: string;
  readonly reason: string | undefined;
  readonly exitCode: number | undefined;
  readonly log: string;
  readonly seconds: number;
}

interface JobState {
  readonly id: number;
  readonly job: Job;
  readonly begun: PromiseWithResolvers<void>;
  readonly ended: PromiseWithResolvers<JobEnd>;
  log: Buffer;
  startedAt: number;
  isGiven: boolean;
  isOver: boolean;
  cancelled: Job["cancel"] | undefined;
  artifacts: Buffer | undefined;
}

interface Update {
  readonly state?: string;
  readonly failure_reason?: string;
  readonly exit_code?: number;
}

/** Its sources: a bare repository, and the commit that jobs are of. */
export interface Sources {
  /** Directory that has `project.git`. */
  readonly root: string;
  readonly commit: string;
}

const defaultTimeout = 120;

export class Coordinator implements AsyncDisposable {
  readonly #server: Server;
  readonly #host: string;
  readonly #sources: Sources;
  readonly #states: readonly JobState[];
  readonly #atOnce: number;

  private constructor(host: string, sources: Sources, jobs: readonly Job[], atOnce: number) {
    this.#host = host;
    this.#atOnce = atOnce;
    this.#sources = sources;
    this.#states = jobs.map((job, at) => ({
      id: 100 + at,
      job,
      begun: Promise.withResolvers<void>(),
      ended: Promise.withResolvers<JobEnd>(),
      log: Buffer.alloc(0),
      startedAt: 0,
      isGiven: false,
      isOver: false,
      cancelled: undefined,
      artifacts: undefined,
    }));
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        response.writeHead(500).end(String(error));
      });
    });
  }

  /** Serves at an address that containers reach. */
  static async start(
    host: string,
    sources: Sources,
    jobs: readonly Job[],
    atOnce: number,
  ): Promise<Coordinator> {
    const coordinator = new Coordinator(host, sources, jobs, atOnce);
    coordinator.#server.listen(0, host);
    await once(coordinator.#server, "listening");
    return coordinator;
  }

  get url(): string {
    return `http://${this.#host}:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Resolves once the job has ended, whose turn comes after those before it. */
  async end(job: Job): Promise<JobEnd> {
    return await this.#stateOf((state) => state.job === job).ended.promise;
  }

  /** ID of a job. */
  idOf(job: Job): number {
    return this.#stateOf((state) => state.job === job).id;
  }

  /** Resolves once a job's log has `start`. */
  async begun(job: Job): Promise<void> {
    await this.#stateOf((state) => state.job === job).begun.promise;
  }

  /** Ends a job whose runner is no more, as GitLab does after an hour; the next one's turn comes. */
  giveUp(job: Job, note: string): void {
    const state = this.#stateOf((each) => each.job === job);
    state.log = Buffer.concat([state.log, Buffer.from(`\n${note}`)]);
    this.#end(state, { state: "failed", failure_reason: "stuck_or_timeout_failure" });
  }

  /** Log of a job, as far as it has come. */
  logOf(job: Job): string {
    return plainLog(this.#stateOf((state) => state.job === job).log);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, search } = new URL(request.url ?? "/", this.url);
    if (pathname.startsWith("/group/project.git")) {
      await this.#serveSources(request, response, pathname, search.slice(1));
      return;
    }
    const body = await buffer(request);
    const [, jobId, part = ""] = /^\/api\/v4\/jobs\/(\d+)(?:\/(\w+))?$/.exec(pathname) ?? [];
    if (pathname === "/api/v4/jobs/request") {
      this.#giveJob(response);
    } else if (jobId === undefined) {
      answerJson(response, 200, { id: 1, token: "runner-token" }); // Verification of the runner.
    } else {
      const state = this.#stateOf(({ id }) => id === Number(jobId));
      const parts: Readonly<Record<string, () => Promise<void> | void>> = {
        "": () => this.#update(state, JSON.parse(body.toString()) as Update, response),
        trace: () => this.#appendLog(state, request, body, response),
        artifacts: () => this.#artifacts(state, request, body, response),
      };
      await parts[part]?.();
    }
  }

  #giveJob(response: ServerResponse): void {
    const underWay = this.#states.filter(({ isGiven, isOver }) => isGiven && !isOver).length;
    const next = underWay >= this.#atOnce ? undefined : this.#states.find(({ isGiven }) => !isGiven);
    if (next === undefined) {
      response.writeHead(204).end();
      return;
    }
    next.isGiven = true;
    next.startedAt = performance.now();
    answerJson(response, 201, this.#describe(next));
  }

  #describe({ id, job }: JobState): object {
    const { commit } = this.#sources;
    const timeout = job.timeout ?? defaultTimeout;
    const repository = `${this.url.replace("//", "//gitlab-ci-token:x@")}/group/project.git`;
    const variables = {
      CI: "true",
      GITLAB_CI: "true",
      CI_JOB_ID: String(id),
      CI_JOB_NAME: job.name,
      CI_PROJECT_ID: "7",
      CI_PROJECT_NAME: "project",
      CI_PROJECT_PATH: "group/project",
      CI_SERVER_URL: this.url,
      CI_REPOSITORY_URL: repository,
      CI_COMMIT_SHA: commit,
      CI_COMMIT_REF_NAME: "main",
      ...job.variables,
    };
    const needed = (job.needs ?? []).map((name) => this.#stateOf((state) => state.job.name === name));
    return {
      id,
      token: `job-token-${id}`,
      allow_git_fetch: true,
      job_info: { name: job.name, stage: "test", project_id: 7, project_name: "project" },
      git_info: {
        repo_url: repository,
        ref: "main",
        ref_type: "branch",
        sha: commit,
        before_sha: "0".repeat(40),
        refspecs: ["+refs/heads/*:refs/remotes/origin/*"],
        depth: 20,
      },
      runner_info: { timeout },
      variables: [
        ...Object.entries(variables).map(([key, value]) => ({ key, value, public: true })),
        ...Object.entries(job.files ?? {}).map(([key, value]) => ({ key, value, public: true, file: true })),
      ],
      steps: [
        { name: "script", script: job.script, timeout, when: "on_success", allow_failure: false },
        ...(job.afterScript === undefined
          ? []
          : [
              {
                name: "after_script",
                script: job.afterScript,
                timeout,
                when: "always",
                allow_failure: true,
              },
            ]),
      ],
      image: typeof job.image === "string" ? { name: job.image } : job.image,
      services: job.services ?? [],
      hooks: [{ name: "pre_get_sources_script", script: job.beforeSources ?? [] }],
      cache: job.cache ?? [],
      artifacts: job.artifacts ?? [],
      dependencies: needed.map((other) => ({
        id: other.id,
        token: `job-token-${other.id}`,
        name: other.job.name,
        artifacts_file: { filename: "artifacts.zip", size: other.artifacts?.length ?? 0 },
      })),
      features: {
        trace_sections: true,
        failure_reasons: [
          ...["unknown_failure", "script_failure", "runner_system_failure", "job_execution_timeout"],
          ...["image_pull_failure", "runner_configuration_error"],
        ],
      },
    };
  }

  #appendLog(state: JobState, request: IncomingMessage, body: Buffer, response: ServerResponse): void {
    const from = Number((request.headers["content-range"] ?? "0").split("-")[0]);
    state.log = Buffer.concat([state.log.subarray(0, from), body]);
    const { cancelAt = /^start$/m } = state.job;
    if (cancelAt.test(plainLog(state.log))) {
      state.begun.resolve();
      state.cancelled = state.job.cancel;
    }
    response
      .writeHead(202, {
        "Job-Status": state.cancelled ?? "running",
        Range: `0-${state.log.length}`,
        "X-GitLab-Trace-Update-Interval": "1",
      })
      .end();
  }

  #update(state: JobState, update: Update, response: ServerResponse): void {
    if (update.state === undefined || update.state === "running") {
      response.writeHead(200, { "Job-Status": state.cancelled ?? "running" }).end();
      return;
    }
    response.writeHead(200).end();
    this.#end(state, update);
  }

  #end(state: JobState, { state: status = "", failure_reason: reason, exit_code: exitCode }: Update): void {
    state.isOver = true;
    state.ended.resolve({
      status: state.cancelled === undefined ? status : "canceled",
      reason,
      exitCode,
      log: plainLog(state.log),
      seconds: (performance.now() - state.startedAt) / 1000,
    });
  }

  async #artifacts(
    state: JobState,
    request: IncomingMessage,
    body: Buffer<ArrayBuffer>,
    response: ServerResponse,
  ): Promise<void> {
    if (request.method === "GET") {
      response.writeHead(state.artifacts === undefined ? 404 : 200).end(state.artifacts);
      return;
    }
    if (state.job.cancel !== undefined) {
      return;
    }
    const form = await new Response(body, {
      headers: { "content-type": request.headers["content-type"] ?? "" },
    }).formData();
    const file = form.get("file");
    state.artifacts = file instanceof Blob ? Buffer.from(await file.arrayBuffer()) : undefined;
    answerJson(response, 201, {});
  }

  /** Git's own program answers, as a CGI. */
  async #serveSources(
    request: IncomingMessage,
    response: ServerResponse,
    pathname: string,
    query: string,
  ): Promise<void> {
    const { headers, method } = request;
    const child = spawn("git", ["http-backend"], {
      env: {
        ...process.env,
        GIT_PROJECT_ROOT: this.#sources.root,
        GIT_HTTP_EXPORT_ALL: "1",
        GIT_PROTOCOL: String(headers["git-protocol"] ?? ""),
        PATH_INFO: pathname.replace("/group", ""),
        QUERY_STRING: query,
        REQUEST_METHOD: method,
        CONTENT_TYPE: headers["content-type"] ?? "",
        HTTP_CONTENT_ENCODING: headers["content-encoding"] ?? "",
        ...(headers["content-length"] !== undefined && { CONTENT_LENGTH: headers["content-length"] }),
      },
      stdio: ["pipe", "pipe", "inherit"],
    });
    child.stdin.on("error", () => {});
    request.pipe(child.stdin);
    const answer = await buffer(child.stdout);
    const end = answer.indexOf("\r\n\r\n");
    const fields = answer.subarray(0, end).toString().split("\r\n");
    let status = 200;
    for (const field of fields) {
      const [name = "", value = ""] = field.split(/: (.*)/s);
      if (name === "Status") {
        status = Number.parseInt(value, 10);
      } else {
        response.setHeader(name, value);
      }
    }
    response.writeHead(status).end(answer.subarray(end + 4));
  }

  #stateOf(isIt: (state: JobState) => boolean): JobState {
    const found = this.#states.find(isIt);
    if (found === undefined) {
      throw new Error("there is no such job");
    }
    return found;
  }
}

/** A log without carriage returns, and without what the runner puts before each line: time, stream and kind. */
function plainLog(log: Buffer): string {
  return log
    .toString()
    .replaceAll("\r", "")
    .replaceAll(/^\S+Z \d\d[OE][ +]/gm, "");
}

function answerJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}
