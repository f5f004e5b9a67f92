/** Measures of the cloud's backend, beside the local one. */
import {
  busybox,
  createContainer,
  logScript,
  type Measure,
  measures as localMeasures,
  mib,
  rate,
  type Target,
} from "./measures.ts";

/**
 * For containers whose streams are measured, in billionths of a processor: a task's default is a quarter of one, and its
 * agent lives on that. The way is compared, not the size.
 */
export const ampleCpus = 2_000_000_000;

/** Keeps all of a log: an agent's default would keep the last of one that is measured. */
export const wholeLog = { Type: "json-file", Config: { "max-size": "1g" } } as const;

/** Some container that runs while it is measured. */
export interface CloudTarget extends Target {
  /** Runs `cat` with an open standard input. */
  readonly echoing: string;
  /** Runs, and has written a hundred lines. */
  readonly talked: string;
  /** Runs on a network with `peer`, whose web server at port 8080 has `small` and `big`. */
  readonly asker: string;
}

/** A measure beside that of the local backend. */
export interface CloudMeasure extends Pick<Measure, "name" | "unit" | "repeat"> {
  /** So many times the local time, or so much less than the local rate; undefined: for information. */
  readonly most?: number;
  /** Milliseconds, whatever the local backend takes. */
  readonly mostMs?: number;
  run(target: CloudTarget): Promise<number>;
}

const attachedBytes = 16 * mib;
/** Size of the peer's `big`. */
export const peerFileBytes = 64 * mib;
/** Connections to a peer that are made one after the other. */
const peerConnections = 20;
/**
 * The most that the cloud may take, as a multiple of the local figure: between them lie TLS, and what a task
 * has beside a container.
 */
const most = 1.5;

export const cloudMeasures: readonly CloudMeasure[] = [
  {
    name: "start",
    unit: "ms",
    repeat: 3,
    mostMs: 1200,
    run: async (target) => {
      const id = await createContainer(target, { Cmd: ["sleep", "3600"] });
      const path = `/containers/${id}/start`;
      const time = await target.client.time({ work: "call", method: "POST", path });
      await target.api.call("DELETE", `/containers/${id}?force=1`);
      return time;
    },
  },
  asLocal("run", 3),
  asLocal("attached run", 3),
  asLocal("exec", 20, most),
  asLocal("32 parallel execs", 3, most),
  asLocal("exec stdout", 1, most),
  asLocal("exec stdin", 1, most),
  {
    name: "attach",
    unit: "ms",
    repeat: 20,
    most,
    run: ({ client, echoing }) => client.time({ work: "attach", container: echoing }),
  },
  { name: "attach output", unit: "MB/s", repeat: 1, most, run: attachOutput },
  asLocal("keystroke echo (p90)", 1, most),
  {
    name: "logs, 100 lines",
    unit: "ms",
    repeat: 20,
    most,
    run: ({ client, talked }) =>
      client.time({ work: "call", method: "GET", path: `/containers/${talked}/logs?stdout=1` }),
  },
  asLocal("logs read", 1, most),
  asLocal("archive put", 1),
  asLocal("archive get", 1),
  {
    name: "peer, a connection with a request",
    unit: "ms",
    repeat: 1,
    run: async (target) => {
      const script = `for i in $(seq ${peerConnections}); do wget -qO /dev/null http://peer:8080/small || exit; done`;
      return (await ask(target, script)) / peerConnections;
    },
  },
  {
    name: "peer, a download",
    unit: "MB/s",
    repeat: 1,
    run: async (target) => rate(peerFileBytes, await ask(target, "wget -qO /dev/null http://peer:8080/big")),
  },
];

/** How long a script in the container that has a peer takes, in milliseconds. @throws it fails */
function ask({ client, asker }: CloudTarget, script: string): Promise<number> {
  return client.time({ work: "exec", container: asker, cmd: ["sh", "-c", script], parallel: 1 });
}

function asLocal(name: string, repeat: number, bar?: number): CloudMeasure {
  const measure = localMeasures.find((each) => each.name === name);
  if (measure === undefined) {
    throw new Error(`there is no measure ${name}`);
  }
  const { unit, run } = measure;
  return { name, unit, repeat, run, ...(bar !== undefined && { most: bar }) };
}

/** MB/s of the output that a container writes when it is told to; its other uses are not measured. */
async function attachOutput(target: CloudTarget): Promise<number> {
  const create = busybox(target, {
    Cmd: ["sh", "-c", `read line; ${logScript(attachedBytes)}`],
    OpenStdin: true,
    StdinOnce: true,
    HostConfig: {
      NetworkMode: target.network,
      NanoCpus: ampleCpus,
      LogConfig: wholeLog,
    },
  });
  const time = await target.client.time({ work: "prompted output", create, bytes: attachedBytes });
  return rate(attachedBytes, time);
}
