/**
 * Files copied into containers that have not run yet, and their working directories. `<state>/staged/<container ID>/`
 * holds one tar per call with its request; the agent unpacks them before the main process starts. They are kept until
 * it has started, as a failed start may be followed by another one in a new task.
 */
import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";

import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";

import { KeyedLocks } from "../../concurrency/serial.ts";
import { Owners } from "./archive-owner.ts";
import type { FileIndex } from "../../images/file-index.ts";
import { fileSteps } from "../../images/file-tree.ts";
import { StepPace } from "../../concurrency/step-pace.ts";
import { headersOf, LayerHeaders, type LayerReader } from "../../images/layer-headers.ts";
import { Limiter } from "../../concurrency/limiter.ts";
import type { Unpacked } from "../../images/tar-reader.ts";
import { createAgentClient } from "../../../agent-client/client.ts";
import type { AgentTarget } from "../../../agent-client/address.ts";
import {
  conflict,
  errnoOf,
  forbidden,
  fromUnknown,
  invalid,
  SockerlessError,
  unlessMissing,
} from "../../../common/errors.ts";
import {
  type ArchivePutOpen,
  ArchivePutOpenSchema,
  type ArchivePutRequest,
  type ArchivePutRequestSchema,
} from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { MessageInitShape } from "@bufbuild/protobuf";

/** Maximum bytes staged for one container. */
const maxBytes = 1024 ** 3;
/** Maximum archives staged for one container, as each is a call to the agent at the start. */
const maxCalls = 1000;
/** Maximum bytes to which one container's archives may unpack in one look at them: a few of gzip may be any number. */
const maxUnpackedBytes = 16 * 1024 ** 3;
/** How often archives are tried whose directories later ones create; each that waits for another one takes a round. */
const maxRounds = 16;
const chunkBytes = 256 * 1024;
/** Time limit of a call: longer than any unpacking that makes progress. */
const applyTimeoutMs = 10 * 60_000;

/** The archives that an agent has unpacked for its container. */
interface Given {
  /** The agent's address and pin. */
  readonly agent: string;
  /** The calls' numbers. */
  readonly numbers: Set<string>;
}

/** Queries about containers, whose starts determine the fate of staged files. */
export interface ContainerLives {
  /** Whether a container has never been started; undefined if there is no such container. */
  readonly isNew: (containerId: string) => boolean | undefined;
  /** Whether a start of a container is in progress. */
  readonly isStarting: (containerId: string) => boolean;
  /** A container's working directory, which exists even if its image does not have it. */
  readonly workingDirectoryOf: (containerId: string) => string;
}

/** The staged files of one backend, kept until their container has actually started. */
export class StagedFiles {
  readonly #directory: string;
  readonly #lives: ContainerLives;
  /** Locks by container, as calls may end concurrently, and a start may intervene. */
  readonly #locks = new KeyedLocks();
  /** By container. An agent whose container's start failed may also serve the next start. */
  readonly #given = new Map<string, Given>();
  /** By container and number, as no number is used twice. */
  readonly #headers = new LayerHeaders();
  /** Lookups of {@link StagedFiles.writtenBytes}, by container. */
  readonly #sizes = new Limiter(1);
  readonly #maxUnpacked: number;

  constructor(directory: string, lives: ContainerLives, maxUnpacked: number = maxUnpackedBytes) {
    this.#directory = directory;
    this.#lives = lives;
    this.#maxUnpacked = maxUnpacked;
  }

  /** Creates the directory and removes remains of interrupted calls. */
  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    for (const container of await readdir(this.#directory)) {
      for (const name of await readdir(path.join(this.#directory, container))) {
        if (name.endsWith(".new")) {
          await rm(path.join(this.#directory, container, name), { force: true });
        }
      }
    }
  }

  /**
   * Stores the tar of one `ArchivePut` call.
   *
   * @param refuse receives the target and throws if it is invalid
   * @returns its bytes
   * @throws invalid: a truncated stream; forbidden: too large; conflict: the container was started meanwhile; the
   *   errors of `refuse`
   */
  async put(
    containerId: string,
    requests: AsyncIterable<ArchivePutRequest>,
    refuse: (directory: string) => Promise<void>,
  ): Promise<bigint> {
    const directory = path.join(this.#directory, containerId);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const temporary = path.join(directory, `${randomUUID()}.new`);
    try {
      const { opened, bytes } = await receive(
        temporary,
        requests,
        maxBytes - (await this.#size(containerId)),
        refuse,
      );
      await this.#locks.run(containerId, () => this.#add(containerId, opened, temporary));
      return BigInt(bytes);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  /** Numbers a complete tar, in the order in which calls end. */
  async #add(containerId: string, opened: ArchivePutOpen, tar: string): Promise<void> {
    const { isNew, isStarting } = this.#lives;
    if (isNew(containerId) !== true || (this.#given.has(containerId) && isStarting(containerId))) {
      throw conflict("the container was started meanwhile");
    }
    const staged = await this.#staged(containerId);
    if (staged.length >= maxCalls) {
      throw forbidden(
        `more than ${maxCalls} archives were put into container ${containerId} before its start`,
      );
    }
    if ((await this.#size(containerId)) > maxBytes) {
      throw tooMuch();
    }
    const number = String(Number(staged.at(-1) ?? "0") + 1).padStart(6, "0");
    const file = this.#file(containerId, number);
    await writeFile(`${file}.json`, JSON.stringify(toJson(ArchivePutOpenSchema, opened)), { mode: 0o600 });
    await rename(tar, `${file}.tar`);
  }

  /**
   * Adds a container's working directory and staged files to the files of its image.
   *
   * @throws invalid: an unreadable archive, or archives that unpack to too much; conflict: the container was started
   *   meanwhile; the signal's reason
   */
  async addTo(files: FileIndex, containerId: string, signal: AbortSignal): Promise<void> {
    await files.addDirectory(this.#lives.workingDirectoryOf(containerId));
    const unpacked = this.#unpackingOf(containerId, signal);
    const owners = new Owners(files);
    const archives = new Map<string, ArchivePutOpen>();
    await eachOnceItFits(await this.#staged(containerId), async (number) => {
      signal.throwIfAborted();
      const opened =
        archives.get(number) ?? (await readOpened(this.#file(containerId, number)).catch(startedMeanwhile));
      archives.set(number, opened);
      const { path: directory, copyUidGid, user } = opened;
      const owner = copyUidGid ? () => owners.of(user) : undefined;
      return await files.addArchive(directory, this.#reader(containerId, number, unpacked), owner);
    });
  }

  /**
   * Bytes of a container's staged files, including replaced ones.
   *
   * @throws as {@link addTo}
   */
  async writtenBytes(containerId: string, signal: AbortSignal): Promise<bigint> {
    using _one = await this.#sizes.acquire(containerId, signal);
    const unpacked = this.#unpackingOf(containerId, signal);
    const pace = new StepPace(fileSteps, signal);
    let bytes = 0;
    for (const number of await this.#staged(containerId)) {
      for await (const header of headersOf(this.#reader(containerId, number, unpacked))) {
        await pace.spend(1);
        bytes += header.type === "symlink" ? Buffer.byteLength(header.linkname ?? "") : (header.size ?? 0);
      }
    }
    return BigInt(bytes);
  }

  #reader(containerId: string, number: string, unpacked: Unpacked): LayerReader {
    const open = (): AsyncIterable<Uint8Array> => readStaged(`${this.#file(containerId, number)}.tar`);
    return { open, headers: () => this.#headers.of(`${containerId}/${number}`, open, unpacked) };
  }

  /** Limits what the archives of a container unpack to in one look. */
  #unpackingOf(containerId: string, signal: AbortSignal): Unpacked {
    let left = this.#maxUnpacked;
    return (bytes) => {
      signal.throwIfAborted();
      left -= bytes;
      if (left < 0) {
        throw invalid(
          `the archives that were put into container ${containerId} unpack to more than ${this.#maxUnpacked} bytes: they are read once the container runs`,
        );
      }
    };
  }

  /** Path of a call's files, without their suffix. */
  #file(containerId: string, number: string): string {
    return path.join(this.#directory, containerId, number);
  }

  /** Whether a container may have files beyond its image. */
  async adds(containerId: string): Promise<boolean> {
    const directory = this.#lives.workingDirectoryOf(containerId);
    return !["", "/"].includes(directory) || (await this.#staged(containerId)).length > 0;
  }

  /**
   * Has the agent of a container that has never run unpack its staged files, in order. An archive for a missing
   * directory (possible in volumes, whose content is unknown) waits until a later one has created it. The files stay
   * until {@link StagedFiles.settle}, for another agent after a failed start; the same agent gets nothing twice.
   *
   * @throws the agent's refusal, with the target; the signal's reason
   */
  async apply(containerId: string, agent: AgentTarget, signal: AbortSignal): Promise<void> {
    await this.#locks.run(containerId, () => this.#apply(containerId, agent, signal));
  }

  async #apply(containerId: string, agent: AgentTarget, signal: AbortSignal): Promise<void> {
    if (this.#lives.isNew(containerId) !== true) {
      await this.#forget(containerId); // This process or an earlier one has ended right after the start.
      return;
    }
    const workingDirectory = this.#lives.workingDirectoryOf(containerId);
    const given = this.#givenTo(containerId, agent);
    const waiting = (await this.#staged(containerId)).filter((number) => !given.numbers.has(number));
    if (waiting.length === 0) {
      return;
    }
    const { client, close } = createAgentClient(agent.address, {
      containerId,
      ...(agent.credentials === undefined ? {} : { credentials: agent.credentials }),
    });
    try {
      let missing: SockerlessError | undefined;
      const left = await eachOnceItFits(waiting, async (number) => {
        const file = this.#file(containerId, number);
        const opened = { ...(await readOpened(file)), workingDirectory };
        try {
          await client.archivePut(requestsOf(opened, `${file}.tar`), { timeoutMs: applyTimeoutMs, signal });
        } catch (error) {
          signal.throwIfAborted();
          const refusal = doNotFit(opened.path, error);
          if (fromUnknown(error).kind !== "not-found") {
            throw refusal;
          }
          missing ??= refusal;
          return false;
        }
        given.numbers.add(number);
        return true;
      });
      if (left.length > 0) {
        throw missing;
      }
    } finally {
      close();
    }
  }

  #givenTo(containerId: string, { address }: AgentTarget): Given {
    const agent = nameOf(address);
    const known = this.#given.get(containerId);
    if (known?.agent === agent) {
      return known;
    }
    const given = { agent, numbers: new Set<string>() };
    this.#given.set(containerId, given);
    return given;
  }

  /** Removes the staged files of a container that has run; keeps those of a new one. Idempotent. */
  async settle(containerId: string): Promise<void> {
    await this.#locks.run(containerId, async () => {
      if (this.#lives.isNew(containerId) === false) {
        await this.#forget(containerId);
      }
    });
  }

  /** Removes all staged files of a container. */
  async remove(containerId: string): Promise<void> {
    await this.#locks.run(containerId, () => this.#forget(containerId));
  }

  async #forget(containerId: string): Promise<void> {
    this.#given.delete(containerId);
    await rm(path.join(this.#directory, containerId), { recursive: true, force: true });
  }

  /** The numbers of calls with a complete tar, in order. */
  async #staged(containerId: string): Promise<string[]> {
    return (await this.#names(containerId))
      .filter((name) => name.endsWith(".tar"))
      .map((name) => name.slice(0, -".tar".length))
      .sort((one, other) => Number(one) - Number(other));
  }

  async #size(containerId: string): Promise<number> {
    let bytes = 0;
    for (const name of await this.#names(containerId)) {
      bytes += (await stat(path.join(this.#directory, containerId, name))).size;
    }
    return bytes;
  }

  async #names(containerId: string): Promise<string[]> {
    return (await readdir(path.join(this.#directory, containerId)).catch(unlessMissing)) ?? [];
  }
}

/**
 * Runs a function for each element in order, and again for those that failed to fit, while there is progress, in
 * {@link maxRounds} at most.
 *
 * @param fit returns false if the element does not fit yet
 * @returns the elements that do not fit
 */
async function eachOnceItFits(
  numbers: readonly string[],
  fit: (number: string) => Promise<boolean>,
): Promise<readonly string[]> {
  let waiting = numbers;
  for (let round = 0; round < maxRounds; round++) {
    const left: string[] = [];
    for (const number of waiting) {
      if (!(await fit(number))) {
        left.push(number);
      }
    }
    if (left.length === 0 || left.length === waiting.length) {
      return left;
    }
    waiting = left;
  }
  return waiting;
}

/** The error of a start because of staged files, with a remedy. */
function doNotFit(directory: string, error: unknown): SockerlessError {
  const { kind, message } = fromUnknown(error);
  const refusal = `files that were put into the container before its start do not fit in at ${directory}: ${message}`;
  return kind === "not-found"
    ? new SockerlessError(
        "invalid",
        `${refusal}; docker cp a directory to there, too, or create the container anew`,
        error,
      )
    : new SockerlessError(kind, refusal, error);
}

/** Each task's agent has its own certificate. */
function nameOf(address: AgentTarget["address"]): string {
  const pin = "pin" in address ? Buffer.from(address.pin).toString("hex") : "";
  return JSON.stringify({ ...address, pin });
}

/** A staged tar, valid until its container is started. */
async function* readStaged(file: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(file, { highWaterMark: chunkBytes }) as AsyncIterable<Uint8Array>;
  } catch (error) {
    startedMeanwhile(error);
  }
}

function startedMeanwhile(error: unknown): never {
  throw errnoOf(error) === "ENOENT" ? conflict("the container was started meanwhile", error) : error;
}

/** Reads the request of the call for `<file>.tar`. */
async function readOpened(file: string): Promise<ArchivePutOpen> {
  return fromJson(ArchivePutOpenSchema, JSON.parse(await readFile(`${file}.json`, "utf8")) as JsonValue);
}

/** Writes a call's tar to a file. */
async function receive(
  file: string,
  requests: AsyncIterable<ArchivePutRequest>,
  room: number,
  refuse: (directory: string) => Promise<void>,
): Promise<{ readonly opened: ArchivePutOpen; readonly bytes: number }> {
  let opened: ArchivePutOpen | undefined;
  let bytes = 0;
  await using handle = await open(file, "wx", 0o600);
  for await (const { message } of requests) {
    switch (message.case) {
      case "open":
        opened = message.value;
        await refuse(opened.path);
        break;
      case "chunk":
        bytes += message.value.data.length;
        if (bytes > room) {
          throw tooMuch();
        }
        await handle.appendFile(message.value.data);
        break;
      case "end":
        if (opened === undefined || message.value.totalBytes !== BigInt(bytes)) {
          throw invalid("the archive is not whole");
        }
        await handle.sync();
        return { opened, bytes };
    }
  }
  throw invalid("unexpected EOF");
}

function tooMuch(): SockerlessError {
  return forbidden(`more than ${maxBytes} bytes are put into a container before its start`);
}

async function* requestsOf(
  opened: ArchivePutOpen,
  file: string,
): AsyncGenerator<MessageInitShape<typeof ArchivePutRequestSchema>> {
  yield { message: { case: "open", value: opened } };
  let offset = 0n;
  for await (const data of createReadStream(file, { highWaterMark: chunkBytes })) {
    yield { message: { case: "chunk", value: { offset, data: data as Uint8Array } } };
    offset += BigInt((data as Uint8Array).length);
  }
  yield { message: { case: "end", value: { totalBytes: offset } } };
}
