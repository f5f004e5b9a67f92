/** Clients at the Docker socket inside a container, outside of which they run: a relay in the container joins them to it. */
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

import { type CommandOptions, type CommandResult, runCommand } from "./command.ts";
import type { Daemon } from "./daemon.ts";
import { busyboxImage, type FixtureImage } from "./images.ts";
import { buildProgram } from "./programs.ts";
import { tarOf } from "./tar.ts";

/** Busybox with the relay, which it runs, and the stand-in for testcontainers' reaper, `/ryuk`. */
export async function relayImage(): Promise<FixtureImage> {
  const programs = await Promise.all(
    ["socketrelay", "ryuk"].map(async (name) => ({
      name,
      mode: 0o755,
      content: await readFile(await buildProgram(name)),
    })),
  );
  const busybox = await busyboxImage({ Cmd: ["/socketrelay"], ExposedPorts: { "2375/tcp": {} } });
  return { ...busybox, layers: [...busybox.layers, await tarOf(programs)] };
}

/** Arguments of `docker run` for a container that binds the Docker socket and relays it. */
export const relayArguments = [
  ...["--volume", "/var/run/docker.sock:/var/run/docker.sock", "--publish", "127.0.0.1:0:2375"],
] as const;

/** A client of one container's socket. */
export class InnerClient implements AsyncDisposable {
  /** A socket of this machine that leads to the container's. */
  readonly socket: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #resources: AsyncDisposableStack;

  private constructor(socket: string, env: NodeJS.ProcessEnv, resources: AsyncDisposableStack) {
    this.socket = socket;
    this.#env = env;
    this.#resources = resources;
  }

  /** @param container runs {@link relayImage} with {@link relayArguments} */
  static async of(daemon: Daemon, container: string): Promise<InnerClient> {
    await using resources = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "skl-in-"));
    resources.defer(() => rm(directory, { recursive: true, force: true }));
    const published = await daemon.ok("port", container, "2375/tcp");
    const port = Number(published.split(":").at(-1));
    const open = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (client) => {
      const relay = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
      for (const socket of [client, relay]) {
        open.add(socket);
        socket.once("close", () => open.delete(socket));
      }
      void Promise.all([pipeline(client, relay), pipeline(relay, client)]).catch(() => {
        client.destroy();
        relay.destroy();
      });
    });
    resources.defer(async () => {
      for (const socket of open) {
        socket.destroy();
      }
      server.close();
      await once(server, "close");
    });
    const path = join(directory, "docker.sock");
    server.listen(path);
    await once(server, "listening");
    const env = { ...daemon.clientEnv, DOCKER_HOST: `unix://${path}` };
    return new InnerClient(path, env, resources.move());
  }

  /** Runs the docker CLI. */
  docker(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return runCommand("docker", args, { ...options, env: this.#env });
  }

  /** Runs the docker CLI, and answers what it writes. @throws Error: it has failed */
  async ok(...args: readonly string[]): Promise<string> {
    const { code, text, errorText } = await this.docker(args);
    if (code !== 0) {
      throw new Error(`docker ${args.join(" ")} ended with ${code}:\n${errorText}\n${text}`);
    }
    return text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
