/** The learned pool: a forecast based on the task records, whose knowledge is stored in the state. */
import { createHash } from "node:crypto";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import { forgetOldest, remember } from "../../../common/forget-oldest.ts";
import type { Logger } from "../../../common/logger.ts";
import { PoolRecordSchema, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import type { State } from "../../state/state.ts";
import type { PreparedTasks } from "../contract/prepared-tasks.ts";
import { endOf, type TaskBook } from "../tasks/task-book.ts";
import { type Budget, type Burst, type Counts, Forecast } from "./forecast.ts";
import { defaultNetwork, type Wanted } from "./templates.ts";

/** Settings and dependencies of a learned pool. */
export interface LearnedOptions {
  readonly state: Pick<State, "pool" | "commit">;
  readonly book: Pick<TaskBook, "of">;
  readonly prepared: Pick<PreparedTasks, "isMadeWith" | "shapeOf">;
  /** The daily limit of waiting tasks' cost, in hours or in money. */
  readonly perDay: number;
  /** The cost of an hour of a request's task, in the same unit. */
  readonly costOf: (request: string) => number;
  /** Awaited from time to time during work that takes a second; by default lets other work run. */
  readonly pause?: () => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

const dayMs = 24 * 60 * 60_000;
/** How long starts are remembered. */
const memoryMs = 7 * dayMs;
const burstPrefix = "burst ";
const kindPrefix = "kind ";
/** Maximum kinds with a request, and maximum characters of a kind and of a request. */
const mostKinds = 1_000;
const kindCharacters = 200;
const requestCharacters = 65_536;

/** Learns from this backend's starts, and determines which tasks to keep waiting. */
export class LearnedPool {
  readonly #options: LearnedOptions;
  readonly #forecast: Forecast;
  /** Requests of the last start of each kind, the oldest first. */
  readonly #requests = new Map<string, string>();
  /** Kinds whose last request the cloud no longer accepts. */
  readonly #stale = new Set<string>();
  /** Kinds with names that have occurred once today. */
  readonly #once = new Set<string>();
  #calibratedDay = -1;

  constructor(options: LearnedOptions) {
    this.#options = options;
    const bursts: Burst[] = [];
    for (const { burst, kind } of options.state.pool.values()) {
      if (kind !== undefined) {
        this.#requests.set(kind.kind, kind.request);
      }
      if (burst?.beganAt !== undefined) {
        bursts.push({
          beganMs: timestampMs(burst.beganAt),
          lengthMs: Number(burst.lengthMs),
          counts: countsOf(burst.counts),
          isFollower: burst.isFollower,
          followers: countsOf(burst.followers),
        });
      }
    }
    this.#forecast = new Forecast(bursts.sort((one, other) => one.beganMs - other.beganMs));
  }

  /** Records a container's start. */
  started(spec: WorkloadSpec, request: string): void {
    const { isMadeWith, shapeOf } = this.#options.prepared;
    if (request.length > requestCharacters) {
      return;
    }
    const { kind, hasNames } = kindOf(spec, isMadeWith);
    this.#reportEnds();
    const before = this.#requests.get(kind);
    // Thousands of kinds that occur once, as with a network per job, would only slow down the forecast.
    if (before === undefined && hasNames && !this.#once.delete(kind)) {
      this.#once.add(kind);
      forgetOldest(this.#once, mostKinds);
      return;
    }
    const { id, generation } = spec.record;
    this.#forecast.started(`${id} ${generation}`, kind, this.#options.clock.nowMs());
    this.#stale.delete(kind);
    const oldest = remember(this.#requests, kind, request, mostKinds);
    if (oldest !== undefined) {
      this.#stale.delete(oldest);
    }
    if (oldest !== undefined || before === undefined || shapeOf(before) !== shapeOf(request)) {
      const record = create(PoolRecordSchema, { id: `${kindPrefix}${kind}`, kind: { kind, request } });
      this.#keep((change) => {
        change.pool.put(record);
        if (oldest !== undefined) {
          change.pool.delete(`${kindPrefix}${oldest}`);
        }
      });
    }
  }

  /** Records that the cloud no longer accepts a request: its kind is not prepared before its next start. */
  refused(request: string): void {
    for (const [kind, asked] of this.#requests) {
      if (asked === request) {
        this.#stale.add(kind);
      }
    }
  }

  /** The tasks to keep waiting now. */
  async wanted(): Promise<readonly Wanted[]> {
    const nowMs = this.#options.clock.nowMs();
    this.#reportEnds();
    this.#learn(nowMs);
    await this.#beginDay(nowMs);
    return this.forecast();
  }

  /** Like {@link wanted}, without learning. */
  forecast(): readonly Wanted[] {
    const levels = this.#forecast.wanted(this.#options.clock.nowMs(), this.#budget);
    return [...levels].flatMap(([kind, { least, most }]) => {
      const request = this.#requests.get(kind);
      return request === undefined || this.#stale.has(kind) ? [] : [{ kind, request, count: least, most }];
    });
  }

  get #budget(): Budget {
    const { costOf, perDay } = this.#options;
    const costOfKind = (kind: string): number => {
      const request = this.#requests.get(kind);
      return request === undefined ? Infinity : costOf(request);
    };
    return { perDay, costOf: costOfKind };
  }

  #reportEnds(): void {
    const { book, clock } = this.#options;
    for (const run of this.#forecast.running) {
      const [id = "", generation] = run.split(" ");
      const record = book.of(id);
      const end = record && endOf(record);
      if (record === undefined || String(record.generation) !== generation) {
        this.#forecast.ended(run, clock.nowMs());
      } else if (end !== undefined) {
        this.#forecast.ended(run, end.finishedAt.getTime());
      } else if (record.phase === TaskPhase.GONE) {
        this.#forecast.ended(run, clock.nowMs());
      }
    }
  }

  #learn(nowMs: number): void {
    const settled = this.#forecast.settle(nowMs);
    if (settled.length > 0) {
      this.#keep((change) => {
        for (const { beganMs, lengthMs, counts, isFollower, followers } of settled) {
          const burst = {
            beganAt: timestampFromMs(beganMs),
            lengthMs: BigInt(Math.max(0, Math.round(lengthMs))),
            counts: Object.fromEntries(counts),
            isFollower,
            followers: Object.fromEntries(followers),
          };
          change.pool.put(create(PoolRecordSchema, { id: `${burstPrefix}${beganMs}`, burst }));
        }
      });
      this.#makeRoom();
    }
  }

  /** Forgets the oldest bursts while there are too many. */
  #makeRoom(): void {
    while (this.#forecast.isFull) {
      this.#forget(this.#forecast.tenthMs);
    }
  }

  /** Once a day, and at the beginning: drops old bursts, and sets the price. */
  async #beginDay(nowMs: number): Promise<void> {
    const day = Math.floor(nowMs / dayMs);
    if (day === this.#calibratedDay) {
      return;
    }
    this.#calibratedDay = day;
    this.#once.clear();
    this.#forget(nowMs - memoryMs);
    this.#makeRoom();
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    await this.#forecast.calibrate(this.#budget, this.#options.pause ?? turn);
  }

  #forget(beforeMs: number): void {
    this.#forecast.forget(beforeMs);
    const known = this.#forecast.kinds;
    const old = [...this.#options.state.pool.values()].filter(
      ({ burst, kind }) =>
        (burst?.beganAt !== undefined && timestampMs(burst.beganAt) < beforeMs) ||
        (kind !== undefined && !known.has(kind.kind)),
    );
    this.#keep((change) => {
      for (const { id, kind } of old) {
        this.#requests.delete(kind?.kind ?? "");
        this.#stale.delete(kind?.kind ?? "");
        change.pool.delete(id);
      }
    });
  }

  /** Stores a change; if that fails, the knowledge lasts until this process ends. */
  #keep(describe: Parameters<State["commit"]>[0]): void {
    const { logger, state } = this.#options;
    state.commit(describe, "happened").catch((error: unknown) => {
      logger.warn({ err: error }, `cannot keep what was learned of starts: ${messageOf(error)}`);
    });
  }
}

/** A kind of containers. */
interface Kind {
  /**
   * An identifier shared by all containers that can use each other's tasks, while the image's name refers to the same
   * image.
   */
  readonly kind: string;
  /** Whether it includes a network or volume, which may exist for one container only. */
  readonly hasNames: boolean;
}

function kindOf({ record, mounts, network }: WorkloadSpec, isMadeWith: PreparedTasks["isMadeWith"]): Kind {
  const { config, hostConfig } = record;
  const { nanoCpus = 0n, memory = 0n } = hostConfig?.resources ?? {};
  const networks = network.kind === "networks" ? network.networks : undefined;
  const names = isMadeWith.networks ? (networks ?? []).map(({ name }) => name).sort() : [];
  // A read-only root has no directories for anonymous volumes.
  const isMadeWithAnonymous = isMadeWith.anonymousVolumes || hostConfig?.readonlyRootfs === true;
  const mounted = mounts.map(({ type, destination, volume }) => {
    const isNamed = volume !== undefined && (!volume.anonymous || isMadeWithAnonymous);
    return { type, destination, name: isNamed ? volume.name : "" };
  });
  const text = [
    config?.image ?? "",
    ...(nanoCpus > 0n ? [`cpus=${Number(nanoCpus) / 1e9}`] : []),
    ...(memory > 0n ? [`memory=${memory}`] : []),
    ...(networks === undefined ? [network.kind] : names).map((name) => `network=${name}`),
    ...mounted.map(({ type, destination, name }) => `${type}:${name}:${destination}`).sort(),
  ].join(" ");
  const hasNames = names.some((name) => name !== defaultNetwork) || mounted.some(({ name }) => name !== "");
  return { kind: shortened(text), hasNames };
}

/** A text, its end replaced by a hash of the whole if it is long. */
function shortened(text: string): string {
  if (text.length <= kindCharacters) {
    return text;
  }
  const hash = createHash("sha256").update(text).digest("hex").slice(0, 32);
  return `${text.slice(0, kindCharacters - hash.length - 1).toWellFormed()} ${hash}`;
}

function countsOf(counts: Readonly<Record<string, number>>): Counts {
  return new Map(Object.entries(counts));
}
