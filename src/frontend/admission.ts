/**
 * Admission control: bounds on open requests and on requests in progress. Each kind has a share of the clients'
 * connections of its own, so that no kind starves another. Admitted requests wait for a slot, which goes to the route that
 * has fewest, and there by turns to the first and to the last: behind a crowd that waits a newcomer does not.
 *
 * Why: every request in progress costs time of the single thread, here and in the backend. Thousands that begin
 * together would all be late, and delay everybody else: each step of another's request waits for one of each of them.
 */
import { SockerlessError } from "../common/errors.ts";
import { openFilesLimit } from "../common/open-files.ts";
import { Slots } from "./http/slots.ts";
import { Yielding } from "./http/yielding.ts";

/**
 * Kinds of requests, by the resources that they hold and for how long:
 * - `call`: answered soon, its body fully read;
 * - `exec`: the streams of an exec;
 * - `stream`: follows logs, events or statistics;
 * - `session`: a stream that is joined to another process;
 * - `transfer`: a large upload or download, or a body that is still incomplete.
 */
export type RequestKind = "call" | "exec" | "stream" | "session" | "transfer";

/** Descriptor budget of one kind. */
interface KindBound {
  /** Share of the clients' connections that all requests of the kind may take together. */
  readonly share: number;
  /** Descriptors per request, its connection included. */
  readonly descriptors: number;
  /** Whether requests of this kind yield to others that wait. */
  readonly yields: boolean;
}

/** An eighth stays unassigned: for idle connections, and for pings, which are always admitted. */
const kinds: Readonly<Record<RequestKind, KindBound>> = {
  call: { share: 3 / 16, descriptors: 1, yields: false },
  exec: { share: 3 / 16, descriptors: 1, yields: false },
  stream: { share: 4 / 16, descriptors: 1, yields: true },
  session: { share: 2 / 16, descriptors: 2, yields: true },
  // The agents, the host process and the builder hold up to six connections for each.
  transfer: { share: 2 / 16, descriptors: 2, yields: true },
};

/** Bounds; tests set their own. */
export interface AdmissionLimits {
  /** Requests in progress at once. */
  readonly working: number;
  /**
   * Milliseconds for which a request counts as in progress. A longer one waits for something external, such as a
   * container's end or a cloud, and so does one that has begun to answer: a thousand `docker wait` block nobody.
   */
  readonly workingMs: number;
  /**
   * Waits for a turn of the backend's event loop. Where a crowd keeps it busy a request counts for as many turns as one
   * takes that waits for nothing else, or the whole crowd would be worked on at once.
   *
   * @throws if the backend has none
   */
  readonly backendTurn?: () => Promise<unknown>;
  /** Descriptors for clients: their connections, and those that their requests open. */
  readonly descriptors: number;
}

/** Turns of the backend's event loop that a request takes at most, unless it waits for something external. */
const workingTurns = 16;

/** Upper bound of connections, which bounds their memory. */
const mostDescriptors = 20_000;

/** Default bounds: a quarter of the descriptors is kept for agents' connections and published ports. */
export function usualLimits(): AdmissionLimits {
  const descriptors = Math.floor((Math.min(openFilesLimit(), mostDescriptors) * 3) / 4);
  return { working: 32, workingMs: 100, descriptors };
}

/** Most connections of clients: the TLS terminator has two descriptors for each, and needs some for strangers. */
export function mostConnections({ descriptors }: AdmissionLimits): number {
  return Math.min(descriptors, Math.floor(openFilesLimit() * 0.45));
}

/** An admitted request. */
export interface Admitted extends Disposable {
  /** Marks that its answer has begun; it no longer counts as in progress. */
  answers(): void;
}

/** The requests that are under way leave no room for another. */
export class TooManyRequests extends SockerlessError {
  constructor(message: string) {
    super("unavailable", message);
  }
}

/** Admits requests. */
export class Admission {
  readonly #limits: AdmissionLimits;
  /** Most connections of clients; all kinds together take three quarters of them. */
  readonly #connections: number;
  readonly #slots: Slots;
  readonly #yielding = new Yielding();
  /** Slots taken, by route. */
  readonly #working = new Map<unknown, number>();
  readonly #underWay: Record<RequestKind, number> = { call: 0, exec: 0, stream: 0, session: 0, transfer: 0 };

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
    this.#connections = mostConnections(limits);
    this.#slots = new Slots(limits.working);
  }

  /** Signals the arrival of a request to which yielding requests give way. */
  arrived(): void {
    this.#yielding.arrived();
  }

  /**
   * Waits for a request's turn; disposing ends it.
   *
   * @param route what requests share their turns with
   * @param arrive takes the rest of the request, whose client takes no turn before
   * @throws TooManyRequests; what `arrive` throws
   */
  async enter(kind: RequestKind, route: unknown = kind, arrive?: () => Promise<void>): Promise<Admitted> {
    const { share, descriptors, yields } = kinds[kind];
    const most = Math.floor((this.#connections * share) / descriptors);
    if (this.#underWay[kind] >= most) {
      throw new TooManyRequests(
        `${most} requests of this kind (${kind}) are under way, and no more are taken`,
      );
    }
    this.#underWay[kind] += 1;
    try {
      await arrive?.();
    } catch (error) {
      this.#underWay[kind] -= 1;
      throw error;
    }
    if (yields) {
      await this.#yielding.turn(route);
    } else {
      this.arrived();
    }
    const working = (): number => this.#working.get(route) ?? 0;
    const slot = await this.#slots.enter({
      order: working,
      line: route,
      taken: () => this.#working.set(route, working() + 1),
      returned: () => this.#working.set(route, working() - 1),
    });
    const answers = (): void => {
      clearTimeout(limit);
      slot[Symbol.dispose]();
    };
    const limit = setTimeout(() => void this.#passTurns().then(answers), this.#limits.workingMs);
    let isUnderWay = true;
    return {
      answers,
      [Symbol.dispose]: () => {
        answers();
        this.#underWay[kind] -= Number(isUnderWay);
        isUnderWay = false;
      },
    };
  }

  async #passTurns(): Promise<void> {
    try {
      for (let n = 0; n < workingTurns; n += 1) {
        await this.#limits.backendTurn?.();
      }
    } catch {
      // Nobody works on the request.
    }
  }
}

/** Admits a request that the frontend answers by itself, such as a ping, without waiting. */
export const admittedAtOnce: Admitted = { answers: () => {}, [Symbol.dispose]: () => {} };
