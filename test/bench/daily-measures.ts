/** Measures of what people wait for in a day's work: stacks, networks, volumes, ports, large images, and crowds of clients. */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { TestRegistry } from "../support/registry.ts";
import { tarOf } from "../support/tar.ts";
import type { CliTarget } from "./cli-measures.ts";
import { percentile } from "./figures.ts";
import { busybox, createContainer, type Measure, mib, milliseconds, rate } from "./measures.ts";

const services = 10;
const inspected = 50;
const clients = 32;
const runsOfClient = 4;
const publishedBytes = 256 * mib;
const layerCount = 12;
/** Half of a layer is text, the other half noise. */
const layerHalfBytes = 21 * mib;
const followers = 1_500;
const halfSentLoads = 300;
const pings = 200;

/** A project of ten services that end at once when they are told to. */
const composeFile = JSON.stringify({
  services: Object.fromEntries(
    Array.from({ length: services }, (_, at) => [
      `service${at}`,
      {
        image: "busybox",
        command: ["sleep", "3600"],
        environment: ["VALUE"],
        stop_signal: "SIGKILL",
        volumes: [`data${at}:/data`],
      },
    ]),
  ),
  volumes: Object.fromEntries(Array.from({ length: services }, (_, at) => [`data${at}`, {}])),
});

/** Runs a command of docker compose on the project, whose services get a value in their environment. */
async function compose({ directory, shell }: CliTarget, command: string, value = "first"): Promise<void> {
  const project = join(directory, "bench-stack");
  await mkdir(project, { recursive: true });
  await writeFile(join(project, "compose.yaml"), composeFile);
  await shell(`VALUE=${value} docker compose --progress quiet --project-directory ${project} ${command}`);
}

const up = "up --detach";
const down = "down --volumes";

/** A configuration that no run had before. */
const neverRepeated = (target: CliTarget, id: string) =>
  busybox(target, {
    Cmd: ["echo", id],
    Env: [`ID=${id}`],
    HostConfig: {
      NetworkMode: target.network,
      Memory: 64 * mib + 4096 * Math.floor(Math.random() * 1_000),
      Binds: [`${id}:/data`],
    },
  });

let layers: readonly Buffer[] | undefined;
let compressed: readonly Buffer[] | undefined;

/** A registry that has the image `large:1`, of 500 MB in 12 layers. */
async function registryWithImage(): Promise<TestRegistry> {
  layers ??= await Promise.all(
    Array.from({ length: layerCount }, async (_, at) =>
      tarOf([
        { name: `text${at}`, content: Buffer.alloc(layerHalfBytes, `A line of text in layer ${at}.\n`) },
        { name: `noise${at}`, content: randomBytes(layerHalfBytes) },
      ]),
    ),
  );
  compressed ??= layers.map((layer) => gzipSync(layer, { level: 6 }));
  const registry = await TestRegistry.start();
  await registry.push("large", "1", { layers, config: {} }, compressed);
  return registry;
}

/** Time of a script once the image is there, as `$image`; it is removed behind that. */
async function withImage(target: CliTarget, script: string, before = "true"): Promise<number> {
  await using registry = await registryWithImage();
  const image = `image=${registry.host}/large:1; file=${target.directory}/bench-large.tar`;
  await target.shell(`${image}; docker pull --quiet $image; ${before}`);
  const time = await milliseconds(() => target.shell(`${image}; ${script}`));
  await target.shell(`${image}; docker rmi --force $image || true; rm -f $file`);
  return time;
}

/** Connects to a daemon's socket and sends a request, whose answer is not read to its end. */
function held(socketPath: string, request: string): Promise<Socket> {
  const socket = connect(socketPath);
  socket.write(request);
  return new Promise((resolve, reject) => {
    socket.once("connect", () => resolve(socket)).once("error", reject);
  });
}

/** Bytes that a web server on a port sends of its file, with the answer's header. */
async function bytesFrom(port: number): Promise<number> {
  let bytes = 0;
  try {
    const socket = connect(port, "127.0.0.1");
    socket.write("GET /file HTTP/1.0\r\n\r\n");
    for await (const chunk of socket) {
      bytes += (chunk as Buffer).length;
    }
  } catch {
    return bytes; // Nobody listens yet.
  }
  return bytes;
}

export const dailyMeasures: readonly Measure<CliTarget>[] = [
  {
    name: "run that never repeats",
    unit: "ms",
    bar: { most: 0.5 },
    repeat: 10,
    run: async (target) => {
      const id = randomUUID();
      const time = await target.client.time({ work: "run", create: neverRepeated(target, id) });
      await target.api.call("DELETE", `/volumes/${id}`);
      return time;
    },
  },
  {
    name: `${clients} clients at once: run, inspect, log, removal`,
    unit: "per s",
    bar: { least: 2 },
    repeat: 1,
    run: async (target) => {
      const { api } = target;
      const client = async (): Promise<void> => {
        for (let n = 0; n < runsOfClient; n++) {
          const config = { Cmd: ["echo", "said"], Env: [`ID=${randomUUID()}`] };
          const id = await createContainer(target, config);
          await api.call("POST", `/containers/${id}/start`);
          await api.call("POST", `/containers/${id}/wait`);
          await api.call("GET", `/containers/${id}/json`);
          await api.call("GET", `/containers/${id}/logs?stdout=1`);
          await api.call("DELETE", `/containers/${id}`);
        }
      };
      const time = await milliseconds(() => Promise.all(Array.from({ length: clients }, client)));
      return (clients * runsOfClient) / (time / 1000);
    },
  },
  {
    name: `first inspects of ${inspected} containers`,
    unit: "ms",
    bar: { most: 1.2 },
    repeat: 1,
    run: async (target) => {
      const made: string[] = [];
      for (let n = 0; n < inspected; n++) {
        made.push(await createContainer(target, { Cmd: ["true"] }));
      }
      const time = await milliseconds(async () => {
        for (const id of made) {
          await target.api.call("GET", `/containers/${id}/json`);
        }
      });
      for (const id of made) {
        await target.api.call("DELETE", `/containers/${id}`);
      }
      return time;
    },
  },
  {
    name: "list after a change",
    unit: "ms",
    bar: { most: 1.2 },
    repeat: 10,
    run: async (target) => {
      const id = await createContainer(target, { Cmd: ["true"] });
      const time = await target.client.time({ work: "call", method: "GET", path: "/containers/json?all=1" });
      await target.api.call("DELETE", `/containers/${id}`);
      return time;
    },
  },
  {
    name: "network, made and removed",
    unit: "ms",
    bar: { most: 1 },
    repeat: 5,
    run: ({ api }) =>
      milliseconds(async () => {
        const name = randomUUID();
        await api.call("POST", "/networks/create", { Name: name });
        await api.call("DELETE", `/networks/${name}`);
      }),
  },
  {
    name: "volume, made and removed",
    unit: "ms",
    bar: { most: 1 },
    repeat: 10,
    run: ({ api }) =>
      milliseconds(async () => {
        const name = randomUUID();
        await api.call("POST", "/volumes/create", { Name: name });
        await api.call("DELETE", `/volumes/${name}`);
      }),
  },
  {
    name: `stack of ${services} services, up`,
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: async (target) => {
      const time = await milliseconds(() => compose(target, up));
      await compose(target, down);
      return time;
    },
  },
  {
    name: `stack of ${services} services, recreated`,
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: async (target) => {
      await compose(target, up);
      const time = await milliseconds(() => compose(target, up, "second"));
      await compose(target, down);
      return time;
    },
  },
  {
    name: `stack of ${services} services, down`,
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: async (target) => {
      await compose(target, up);
      return await milliseconds(() => compose(target, down));
    },
  },
  {
    name: "published port, read",
    unit: "MB/s",
    bar: { least: 1.5 },
    repeat: 1,
    run: async (target) => {
      const file = `dd if=/dev/zero of=/www/file bs=1M count=${publishedBytes / mib}`;
      const id = await createContainer(target, {
        Cmd: ["sh", "-c", `mkdir /www; ${file}; exec httpd -f -p 8080 -h /www`],
        ExposedPorts: { "8080/tcp": {} },
        HostConfig: { NetworkMode: target.network, PortBindings: { "8080/tcp": [{ HostIp: "127.0.0.1" }] } },
      });
      await target.api.call("POST", `/containers/${id}/start`);
      const { NetworkSettings } = await target.api.json<{
        NetworkSettings: { Ports: Record<string, { HostPort: string }[]> };
      }>("GET", `/containers/${id}/json`);
      const port = Number(NetworkSettings.Ports["8080/tcp"]?.[0]?.HostPort);
      let time = 0;
      for (let bytes = 0; bytes < publishedBytes; ) {
        time = await milliseconds(async () => {
          bytes = await bytesFrom(port);
        });
      }
      await target.api.call("DELETE", `/containers/${id}?force=1`);
      return rate(publishedBytes, time);
    },
  },
  {
    name: "_ping (p99) beside 1,500 followers of events and 300 loads",
    unit: "ms",
    bar: { limit: 100 },
    repeat: 1,
    run: async ({ api, socket }) => {
      const load = "POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 100000\r\n\r\n";
      const crowd = await Promise.all([
        ...Array.from({ length: followers }, () => held(socket, "GET /events HTTP/1.1\r\nHost: d\r\n\r\n")),
        ...Array.from({ length: halfSentLoads }, () => held(socket, load)),
      ]);
      try {
        const times: number[] = [];
        for (let n = 0; n < pings; n++) {
          times.push(await milliseconds(() => api.call("GET", "/_ping")));
        }
        return percentile(times, 0.99);
      } finally {
        for (const each of crowd) {
          each.destroy();
        }
      }
    },
  },
  {
    name: "image of 500 MB in 12 layers, pull",
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: (target) => withImage(target, "docker pull --quiet $image", "docker rmi $image"),
  },
  {
    name: "image of 500 MB in 12 layers, push",
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: async (target) => {
      await using other = await TestRegistry.start();
      const pushed = `${other.host}/pushed:1`;
      const time = await withImage(target, `docker push --quiet ${pushed}`, `docker tag $image ${pushed}`);
      await target.shell(`docker rmi ${pushed}`);
      return time;
    },
  },
  {
    name: "image of 500 MB in 12 layers, save",
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: (target) => withImage(target, "docker save --output $file $image"),
  },
  {
    name: "image of 500 MB in 12 layers, load",
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: (target) =>
      withImage(
        target,
        "docker load --quiet --input $file",
        "docker save --output $file $image; docker rmi $image",
      ),
  },
  {
    name: "image of 500 MB in 12 layers, removal",
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: (target) => withImage(target, "docker rmi $image"),
  },
];
