/** The Engine API as a client writes it by hand: one request, one answer, nothing in between. */
import assert from "node:assert/strict";
import type { OutgoingHttpHeaders } from "node:http";

import { quickestNetwork } from "./backend-under-test.ts";
import { type ApiResponse, callApi } from "./call-api.ts";
import { RawClient } from "./raw-client.ts";
import { until } from "./until.ts";

/** The part of an inspect that tests look at. */
export interface ContainerDetail {
  readonly Id: string;
  readonly Name: string;
  readonly Image: string;
  readonly Path: string;
  readonly Args: readonly string[];
  readonly State: {
    readonly Status: string;
    readonly Running: boolean;
    readonly ExitCode: number;
    readonly Error: string;
    readonly Pid: number;
    readonly StartedAt: string;
    readonly FinishedAt: string;
    readonly OOMKilled: boolean;
    readonly Health?: unknown;
  };
  readonly Config: Readonly<Record<string, unknown>> & { readonly Env: readonly string[] };
  readonly HostConfig: Readonly<Record<string, unknown>>;
  readonly NetworkSettings: Readonly<Record<string, unknown>> & {
    readonly Ports: Readonly<Record<string, readonly { HostIp: string; HostPort: string }[] | null>>;
  };
  readonly Mounts: readonly Readonly<Record<string, unknown>>[];
}

/**
 * The body of a creation; without an image it is busybox, and without networks it has none where that may be, which is quicker.
 */
export type Creation = Readonly<Record<string, unknown>> & { readonly HostConfig?: object };

/** Requests to the daemon of a test's file. */
export class EngineApi {
  readonly #socket: () => string;
  readonly #version: string;

  /** @param socket answers the path once the daemon runs */
  constructor(socket: () => string, version = "1.51") {
    this.#socket = socket;
    this.#version = version;
  }

  /** Sends a request; an object is sent as JSON, text and bytes as they are. */
  call(
    method: string,
    path: string,
    body?: unknown,
    headers: OutgoingHttpHeaders = {},
  ): Promise<ApiResponse> {
    return callApi(this.#socket(), method, `/v${this.#version}${path}`, { body, headers });
  }

  /** Sends a request that must be answered so. @returns the answer's JSON, undefined where there is none */
  async expect<T>(status: number, method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.call(method, path, body);
    assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
    return (answer.text === "" ? undefined : answer.json()) as T;
  }

  /** Sends a request that must be refused so. */
  async refuses(
    status: number,
    message: string | RegExp,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<void> {
    const { message: told } = await this.expect<{ message: string }>(status, method, path, body);
    if (typeof message === "string") {
      assert.equal(told, message);
    } else {
      assert.match(told, message);
    }
  }

  /** Creates a container. @returns its ID */
  async create(creation: Creation, name?: string): Promise<string> {
    const { Id } = await this.expect<{ Id: string }>(
      201,
      "POST",
      `/containers/create${name === undefined ? "" : `?name=${name}`}`,
      {
        Image: "busybox",
        ...creation,
        HostConfig: { NetworkMode: quickestNetwork(), ...creation.HostConfig },
      },
    );
    return Id;
  }

  async start(container: string): Promise<void> {
    await this.expect(204, "POST", `/containers/${container}/start`);
  }

  /** Creates and starts a container. @returns its ID */
  async run(creation: Creation, name?: string): Promise<string> {
    const id = await this.create(creation, name);
    await this.start(id);
    return id;
  }

  /** Runs a shell's script. */
  async script(script: string, creation: Creation = {}, name?: string): Promise<string> {
    return await this.run({ Cmd: ["sh", "-c", script], ...creation }, name);
  }

  /** Waits for the end of a container. @returns its exit code */
  async wait(container: string, condition = "not-running"): Promise<number> {
    const path = `/containers/${container}/wait?condition=${condition}`;
    return (await this.expect<{ StatusCode: number }>(200, "POST", path)).StatusCode;
  }

  /** Begins to wait for the end of a container; answers once the daemon waits. The caller hands it to {@link endOfWait}. */
  async beginWait(container: string, condition: string): Promise<RawClient> {
    const client = this.connect();
    const path = `/v${this.#version}/containers/${container}/wait?condition=${condition}`;
    client.send(`POST ${path} HTTP/1.0\r\nHost: docker\r\n\r\n`);
    assert.match(await client.answered(), /^HTTP\/1\.1 200 OK(\r\n|$)/);
    return client;
  }

  /** The exit code that a wait tells in the end. */
  async endOfWait(client: RawClient): Promise<number> {
    await client.end();
    client.close();
    return (JSON.parse(client.body.toString()) as { StatusCode: number }).StatusCode;
  }

  /** Waits until a container has written this. */
  async wrote(container: string, text: string): Promise<void> {
    const path = `/containers/${container}/logs?stdout=1`;
    await until(async () => ((await this.call("GET", path)).text.includes(text) ? true : undefined));
  }

  async inspect(container: string): Promise<ContainerDetail> {
    return await this.expect<ContainerDetail>(200, "GET", `/containers/${container}/json`);
  }

  /** Kills and removes containers, with their anonymous volumes. */
  async remove(...containers: string[]): Promise<void> {
    for (const container of containers) {
      await this.expect(204, "DELETE", `/containers/${container}?force=1&v=1`);
    }
  }

  /** A connection for requests that hijack it. The caller closes it. */
  connect(): RawClient {
    return new RawClient(this.#socket());
  }
}
