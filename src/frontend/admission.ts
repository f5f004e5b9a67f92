/**
 * How many requests are under way, and how many are worked on at once. Each kind has its part of the process's descriptors,
 * so that none takes those of another. Those that are let in wait for a place in the order in which they came: as a
 * connection has one request under way, its clients take turns.
 *
 * Why: each request that is worked on costs time of the one thread, here and in the backend; thousands that begin
 * together are all late, and everybody else's with them.
 */
import { SockerlessError } from "../common/errors.ts";
import { openFilesLimit } from "../common/open-files.ts";
import { Slots } from "./http/slots.ts";
import { Yielding } from "./http/yielding.ts";

/**
 * The kinds of requests, by what they hold and for how long:
 * - `call`: is answered soon, and has come whole;
 * - `exec`: the streams of an exec;
 * - `stream`: follows something;
 * - `session`: a stream that is joined with another process;
 * - `transfer`: sends or is sent much, or has not sent all that it has announced.
 */
export type RequestKind = "call" | "exec" | "stream" | "session" | "transfer";

/** Descriptors of a kind. */
interface KindBound {
  /** Part of those for clients which all requests of the kind may have. */
  readonly share: number;
  /** Descriptors of one request, its connection's included. */
  readonly descriptors: number;
  /** Whether it lets others begin first. */
  readonly yields: boolean;
}

/** An eighth is nobody's: connections on which no request has come, and pings, which are let in whatever there is. */
const kinds: Readonly<Record<RequestKind, KindBound>> = {
  call: { share: 3 / 16, descriptors: 1, yields: false },
  exec: { share: 3 / 16, descriptors: 1, yields: false },
  stream: { share: 4 / 16, descriptors: 1, yields: true },
  session: { share: 2 / 16, descriptors: 2, yields: true },
  // Agents, the host process and the builder have up to six open for each.
  transfer: { share: 2 / 16, descriptors: 2, yields: true },
};

/** The bounds; a test has its own. */
export interface AdmissionLimits {
  /** Requests that are worked on. */
  readonly working: number;
  /**
   * Milliseconds for which a request counts as worked on. One that takes longer waits for something else, a
   * container's end or a cloud, and so does one that has begun to answer: a thousand `docker wait` keep
   * nobody out.
   */
  readonly workingMs: number;
  /** Descriptors for clients: their connections, and what their requests take beside these. */
  readonly descriptors: number;
}

/** More connections than this take more memory than a machine may have to give. */
const mostDescriptors = 20_000;

/** The usual bounds: a quarter of the descriptors is for what is no client's, agents' connections and published ports. */
export function usualLimits(): AdmissionLimits {
  const descriptors = Math.floor((Math.min(openFilesLimit(), mostDescriptors) * 3) / 4);
  return { working: 256, workingMs: 250, descriptors };
}

/** A request that was let in. */
export interface Admitted extends Disposable {
  /** Notes that it has begun to answer: it does not count as worked on any more. */
  answers(): void;
}

/** Too many requests of a kind are under way. */
export class TooManyRequests extends SockerlessError {
  constructor(most: number, kind: RequestKind) {
    super("unavailable", `${most} requests of this kind (${kind}) are under way, and no more are taken`);
  }
}

/** Lets requests in. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #slots: Slots;
  readonly #yielding = new Yielding();
  readonly #underWay: Record<RequestKind, number> = { call: 0, exec: 0, stream: 0, session: 0, transfer: 0 };

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
    this.#slots = new Slots(limits.working);
  }

  /** Somebody has come to whom those who yield give way. */
  arrived(): void {
    this.#yielding.arrived();
  }

  /**
   * Waits for a request's turn; disposing ends it.
   *
   * @throws TooManyRequests
   */
  async enter(kind: RequestKind): Promise<Admitted> {
    const { share, descriptors, yields } = kinds[kind];
    const most = Math.floor((this.#limits.descriptors * share) / descriptors);
    if (this.#underWay[kind] >= most) {
      throw new TooManyRequests(most, kind);
    }
    this.#underWay[kind] += 1;
    if (yields) {
      await this.#yielding.turn();
    } else {
      this.arrived();
    }
    const place = await this.#slots.enter();
    const answers = (): void => place[Symbol.dispose]();
    const limit = setTimeout(answers, this.#limits.workingMs);
    let isUnderWay = true;
    return {
      answers,
      [Symbol.dispose]: () => {
        clearTimeout(limit);
        answers();
        this.#underWay[kind] -= Number(isUnderWay);
        isUnderWay = false;
      },
    };
  }
}

/** A request that the frontend answers by itself, a ping above all: it waits for nobody. */
export const admittedAtOnce: Admitted = { answers: () => {}, [Symbol.dispose]: () => {} };
