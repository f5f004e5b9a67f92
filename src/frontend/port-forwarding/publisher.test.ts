import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer as createHttp2Server } from "node:http2";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { after, before, beforeEach, describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { createRouterTransport } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { until } from "../../../test/support/until.ts";
import { type Clock, systemClock } from "../../common/clock.ts";
import { toConnectError } from "../../common/connect-error.ts";
import { notFound, systemError } from "../../common/errors.ts";
import { createLogger, type Logger } from "../../common/logger.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import {
  AgentService,
  TransportProtocol,
  type TunnelRequest,
  type TunnelResponseSchema,
} from "../../gen/sockerless/agent/v1/agent_pb.ts";
import {
  ContainerService,
  type PortMapping,
  PortMappingSchema,
  type WantedPort,
  WantedPortSchema,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import {
  EventsService,
  type SubscribeEventsResponseSchema,
} from "../../gen/sockerless/backend/v1/events_pb.ts";
import { createBackendClients } from "../backend/clients.ts";
import { AgentTargets } from "../streams/agent-targets.ts";
import { StreamPool } from "../streams/stream-pool.ts";
import { SharedRoom } from "../shared-room.ts";
import { Publisher } from "./publisher.ts";
import { ContainerTunnels } from "./tunnels.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const id = "c".repeat(64);
const logger = createLogger({ level: "silent", process: "test" });

/** A backend whose container "web", like all others, has ports that are reached through one agent. */
class Backend {
  byFrontend = true;
  exists = true;
  active = false;
  wanted: WantedPort[] = [];
  creator = "";
  published: PortMapping[] = [];
  /** The reason of the last start that failed because of its ports. */
  failure = "";
  /** Whether answers to calls for tunnels are held back. */
  isHolding = false;
  /** Calls for tunnels that have no answer yet, and the most there have been at a time. */
  calls = 0;
  /** All of them. */
  asked = 0;
  mostCalls = 0;
  readonly #held: (() => void)[] = [];
  readonly #listeners = new Set<(action: string) => void>();

  constructor(readonly agentSocket: string) {}

  /** Changes what is, and tells it. */
  become(active: boolean, action: string): void {
    this.active = active;
    for (const tell of this.#listeners) {
      tell(action);
    }
  }

  /** Answers the calls that were held back, and those that follow. */
  letGo(): void {
    this.isHolding = false;
    for (const answer of this.#held.splice(0)) {
      answer();
    }
  }

  async #answer(): Promise<void> {
    this.calls += 1;
    this.asked += 1;
    this.mostCalls = Math.max(this.mostCalls, this.calls);
    if (this.isHolding) {
      await new Promise<void>((resolve) => this.#held.push(resolve));
    }
    this.calls -= 1;
  }

  get transport() {
    return createRouterTransport((router) => {
      router.service(ContainerService, {
        describePorts: ({ container }) => {
          if (!this.exists) {
            throw toConnectError(notFound("No such container: web"));
          }
          const { byFrontend, active, wanted, published, creator } = this;
          const containerId = container === "web" ? id : container;
          return byFrontend
            ? { containerId, name: "web", byFrontend, active, wanted, published, creator }
            : { containerId };
        },
        openTunnel: async () => {
          await this.#answer();
          return {
            endpoint: { address: { case: "unixPath", value: this.agentSocket }, containerId: id },
            host: "127.0.0.1",
          };
        },
        listContainers: () => ({ containers: this.active ? [{ id }] : [] }),
      });
      router.service(EventsService, { subscribeEvents: (_, { signal }) => this.#events(signal) });
    });
  }

  async *#events(
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof SubscribeEventsResponseSchema>> {
    const told: string[] = [];
    let wake = (): void => {};
    const tell = (action: string): void => {
      told.push(action);
      wake();
    };
    this.#listeners.add(tell); // Before it is said that it listens: nothing is missed from then on.
    signal.addEventListener("abort", () => wake(), { once: true });
    try {
      yield { message: { case: "accepted" as const, value: {} } };
      while (!signal.aborted) {
        const action = told.shift();
        if (action === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        } else {
          yield { message: { case: "event" as const, value: { type: "container", action, actorId: id } } };
        }
      }
    } finally {
      this.#listeners.delete(tell);
    }
  }
}

const wanted = (containerPort: number, fields: MessageInitShape<typeof WantedPortSchema> = {}): WantedPort =>
  create(WantedPortSchema, { containerPort, protocol: "tcp", hostIp: "127.0.0.1", ...fields });

/** The whole of what a connection answers; rejects when it is reset. */
async function exchange(port: number, request: string): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  socket.end(request);
  let answer = "";
  for await (const chunk of socket) {
    answer += String(chunk);
  }
  return answer;
}

const refuses = async (port: number): Promise<true | undefined> => {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return undefined;
  } catch {
    return true;
  } finally {
    socket.destroy();
  }
};

describe("a frontend that publishes", () => {
  const directory = scratchDirectory();
  const agentSocket = join(directory, "agent.sock");
  const streams = new StreamPool(1);
  let agent: ReturnType<typeof createHttp2Server>;
  /** A program that listens in the container: answers after the client's end, in capitals. */
  let service: Server;
  let servicePort: number;
  let backend: Backend;
  let publisher: Publisher;

  before(async () => {
    agent = createHttp2Server(
      connectNodeAdapter({ routes: (router) => router.service(AgentService, { tunnel: serveTunnel }) }),
    );
    agent.listen(agentSocket);
    service = createServer({ allowHalfOpen: true }, (socket) => void shout(socket));
    service.listen(0, "127.0.0.1");
    await once(service, "listening");
    servicePort = (service.address() as AddressInfo).port;
  });
  after(async () => {
    await publisher.close();
    await streams.close();
    agent.close();
    service.close();
  });
  beforeEach(async () => {
    await publisher?.close();
    backend = new Backend(agentSocket);
    publisher = publishing();
  });

  const publishing = (told: Logger = logger, clock: Clock = systemClock): Publisher => {
    const clients = createBackendClients(backend.transport);
    const agents = new AgentTargets({ address: `unix://${directory}/backend.sock` });
    const tunnels = new ContainerTunnels({ backend: clients, streams, agents, logger });
    return new Publisher({
      ...{ backend: clients, tunnels, room: new SharedRoom(room), mostListeners, clock, logger: told },
    });
  };

  /** Connections and flows of the published ports. */
  const room = 40;
  const mostListeners = 16;

  /** Starts the container as a route does. */
  const start = async (container = "web"): Promise<PortMapping[]> => {
    await publisher.start(container, async ({ published, publishFailure }) => {
      if (publishFailure !== "") {
        backend.failure = publishFailure;
        throw systemError(publishFailure);
      }
      backend.published = published;
      backend.become(true, "start");
    });
    return backend.published;
  };

  it("listens before the start and carries both directions, each to its own end", async () => {
    backend.wanted = [wanted(servicePort)];
    const [bound] = await start();
    assert.deepEqual([bound?.ip, bound?.privatePort, bound?.type], ["127.0.0.1", servicePort, "tcp"]);
    const text = "lines\n".repeat(50_000);
    assert.ok((await exchange(bound?.publicPort ?? 0, text)) === text.toUpperCase());
  });

  it("listens at a bounded number of ports, and at none of a container that has more", async () => {
    backend.wanted = Array.from({ length: mostListeners + 1 }, (_, at) => wanted(servicePort + at));
    await assert.rejects(start(), /too many ports are published by one container: 14 sockets listen/);
    backend.wanted = [wanted(servicePort)];
    assert.equal((await start()).length, 1);
  });

  it("keeps room for all beside what is made through Docker sockets of containers", async () => {
    const startOf = async (container: string, creator: string, ports: number): Promise<void> => {
      backend.active = false;
      backend.creator = creator;
      backend.wanted = Array.from({ length: ports }, (_, at) => wanted(servicePort + at));
      assert.equal((await start(container)).length, ports);
    };
    await startOf("a", "x", 2);
    await assert.rejects(
      startOf("b", "x", 1),
      /through the Docker socket of one container: 2 sockets listen/,
    );
    await startOf("c", "y", 2);
    await assert.rejects(startOf("d", "z", 1), /through Docker sockets of containers: 4 sockets listen/);
    await startOf("e", "", 12);
    await assert.rejects(startOf("f", "", 1), /too many ports are published: 16 sockets listen/);
    backend.become(false, "die");
    await publisher.start("a", async () => {});
    await startOf("b", "x", 2);
  });

  it("ends a connection in order to a port on which nobody listens in the container", async () => {
    backend.wanted = [wanted(1)];
    const [bound] = await start();
    for (const said of ["", "hello", "x".repeat(300_000)]) {
      assert.equal(await exchange(bound?.publicPort ?? 0, said), "");
    }
  });

  it("carries datagrams, and their answers to whoever asked", async () => {
    const echo = createSocket("udp4").bind(0, "127.0.0.1");
    await once(echo, "listening");
    echo.on("message", (data, { port }) => echo.send(String(data).toUpperCase(), port));
    backend.wanted = [wanted(echo.address().port, { protocol: "udp" })];
    const [bound] = await start();
    const client = createSocket("udp4");
    const answer = once(client, "message");
    client.send("question", bound?.publicPort ?? 0, "127.0.0.1");
    assert.equal(String((await answer)[0]), "QUESTION");
    client.close();
    echo.close();
  });

  it("fails a start in Docker's words where a port is taken, and starts nothing", async () => {
    backend.wanted = [wanted(80), wanted(81, { hostPort: servicePort })];
    await assert.rejects(start(), (error: Error) => {
      assert.match(
        error.message,
        new RegExp(
          `^failed to set up container networking: driver failed programming external connectivity on endpoint web \\([0-9a-f]{64}\\): Bind for 127.0.0.1:${servicePort} failed: port is already allocated$`,
        ),
      );
      return true;
    });
    assert.equal(backend.active, false);
    assert.match(backend.failure, /port is already allocated$/, "the backend knows of it");
  });

  it("takes the first free port of a range", async () => {
    backend.wanted = [wanted(80, { hostPort: servicePort, hostPortEnd: Math.min(servicePort + 20, 65_535) })];
    const [bound] = await start();
    assert.ok((bound?.publicPort ?? 0) > servicePort);
  });

  it("frees the ports when the start fails", async () => {
    backend.wanted = [wanted(servicePort)];
    let port = 0;
    const failing = publisher.start("web", async ({ published: [bound] }) => {
      port = bound?.publicPort ?? 0;
      throw systemError("no capacity");
    });
    await assert.rejects(failing, /no capacity/);
    assert.equal(await refuses(port), true);
  });

  it("follows what happens without it: an exit, a restart by policy, its own restart", async () => {
    publisher.watch();
    backend.wanted = [wanted(servicePort)];
    const [bound] = await start();
    const port = bound?.publicPort ?? 0;
    backend.become(false, "die");
    await until(() => refuses(port));
    backend.become(true, "start");
    await until(async () => ((await refuses(port)) ? undefined : true));
    assert.equal(await exchange(port, "again"), "AGAIN");
    await publisher.close();
    assert.equal(await refuses(port), true);
    publisher = publishing();
    publisher.watch();
    await until(async () => ((await refuses(port)) ? undefined : true));
    assert.equal(await exchange(port, "after all"), "AFTER ALL");
  });

  it("binds a port as soon as whoever had it is gone, though nothing else happens", async () => {
    const occupant = createServer().listen(0, "127.0.0.1");
    await once(occupant, "listening");
    const { port } = occupant.address() as AddressInfo;
    const mapping = { ip: "127.0.0.1", privatePort: servicePort, publicPort: port, type: "tcp" };
    backend.published = [create(PortMappingSchema, mapping)];
    backend.active = true;
    let refused = false;
    const write = (): void => {
      refused = true;
    };
    const clock = new ManualClock();
    publisher = publishing(createLogger({ level: "error", process: "test", destination: { write } }), clock);
    publisher.watch();
    await until(() => refused || undefined);
    occupant.close();
    await once(occupant, "close");
    await clock.advance(1_000);
    await until(async () => ((await refuses(port)) ? undefined : true));
    assert.equal(await exchange(port, "at last"), "AT LAST");
  });

  it("lets a crowd at one port have no more than there is room for, nor more than its share, and few calls at a time", async () => {
    backend.wanted = [wanted(servicePort), wanted(servicePort)];
    const [first, second] = await start();
    backend.isHolding = true;
    const crowd = Array.from({ length: 2 * room }, () => connect(first?.publicPort ?? 0, "127.0.0.1"));
    let left = 0;
    for (const socket of crowd) {
      socket.on("error", () => {});
      socket.once("close", () => (left += 1));
      socket.resume();
    }
    await until(() => left === room || undefined);
    await until(() => backend.calls === 4 || undefined);
    const answer = exchange(second?.publicPort ?? 0, "beside them");
    await until(() => left === room + 1 || undefined);
    await until(() => backend.calls === 5 || undefined);
    assert.equal(backend.mostCalls, 5, "it waits for none of them");
    backend.letGo();
    assert.equal(await answer, "BESIDE THEM");
    for (const socket of crowd) {
      socket.end();
    }
    await until(() => left === crowd.length || undefined);
    assert.equal(await exchange(first?.publicPort ?? 0, "after them"), "AFTER THEM");
  });

  it("opens a flow for as many clients as there is room for", async () => {
    const echo = createSocket("udp4").bind(0, "127.0.0.1");
    await once(echo, "listening");
    echo.on("message", (data, { port }) => echo.send(data, port));
    backend.wanted = [wanted(echo.address().port, { protocol: "udp" })];
    const [bound] = await start();
    let answers = 0;
    const clients = Array.from({ length: room + 10 }, () => createSocket("udp4"));
    for (const client of clients) {
      client.on("message", () => (answers += 1));
      client.send("question", bound?.publicPort ?? 0, "127.0.0.1");
    }
    await until(() => answers === room || undefined);
    for (const client of clients) {
      client.send("again", bound?.publicPort ?? 0, "127.0.0.1");
    }
    await until(() => answers === 2 * room || undefined);
    await delay(200);
    assert.equal(answers, 2 * room);
    for (const client of clients) {
      client.close();
    }
    echo.close();
  });

  it("looks no place up for a client of a port that is free again", async () => {
    backend.wanted = [wanted(servicePort, { protocol: "udp" })];
    backend.isHolding = true;
    const [bound] = await start();
    const clients = Array.from({ length: 10 }, () => createSocket("udp4"));
    for (const client of clients) {
      client.send("question", bound?.publicPort ?? 0, "127.0.0.1");
    }
    await until(() => backend.asked === 4 || undefined);
    await delay(100); // The others wait for their turns.
    await publisher.close();
    backend.letGo();
    await until(() => backend.calls === 0 || undefined);
    await delay(100);
    assert.equal(backend.asked, 4);
    for (const client of clients) {
      client.close();
    }
  });

  it("leaves ports to a backend that listens itself", async () => {
    backend.byFrontend = false;
    backend.wanted = [wanted(servicePort, { hostPort: servicePort })];
    assert.deepEqual(await start(), []);
  });

  it("lets the backend say that a container does not exist", async () => {
    backend.exists = false;
    const failing = publisher.start("web", () => Promise.reject(notFound("No such container: web")));
    await assert.rejects(failing, /No such container: web/);
  });
});

async function shout(socket: Socket): Promise<void> {
  let heard = "";
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    heard += String(chunk);
  }
  socket.end(heard.toUpperCase());
}

/** An agent's tunnel, as small as it can be: the first message says where to, then both ways. */
async function* serveTunnel(
  requests: AsyncIterable<TunnelRequest>,
): AsyncGenerator<MessageInitShape<typeof TunnelResponseSchema>> {
  const iterator = requests[Symbol.asyncIterator]();
  const opening = (await iterator.next()).value?.message;
  assert.equal(opening?.case, "open");
  const { protocol, host, port } = opening.value;
  const rest = { [Symbol.asyncIterator]: () => iterator };
  if (protocol === TransportProtocol.UDP) {
    yield* serveDatagrams(rest, host, port);
    return;
  }
  const socket = connect({ host, port, allowHalfOpen: true });
  try {
    await once(socket, "connect");
  } catch {
    yield { message: { case: "error" as const, value: { reason: 1, message: "connection refused" } } };
    return;
  }
  yield { message: { case: "opened" as const, value: {} } };
  void (async () => {
    for await (const { message } of rest) {
      if (message.case === "data") {
        socket.write(message.value.data);
      } else if (message.case === "end") {
        socket.end();
      }
    }
  })();
  let offset = 0n;
  for await (const data of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    yield { message: { case: "data" as const, value: { offset, data } } };
    offset += BigInt(data.length);
  }
  yield { message: { case: "end" as const, value: { totalBytes: offset } } };
}

async function* serveDatagrams(
  requests: AsyncIterable<TunnelRequest>,
  host: string,
  port: number,
): AsyncGenerator<MessageInitShape<typeof TunnelResponseSchema>> {
  const socket = createSocket("udp4");
  yield { message: { case: "opened" as const, value: {} } };
  for await (const { message } of requests) {
    if (message.case === "data") {
      const answer = once(socket, "message");
      socket.send(message.value.data, port, host);
      const [data] = (await answer) as [Buffer];
      yield { message: { case: "data" as const, value: { data: new Uint8Array(data) } } };
    }
  }
  socket.close();
}
