/**
 * The live run of a container as a state machine with all of its transitions.
 *
 *     idle ──begin──▶ starting ──succeed──▶ running ──endByUser, endForRestart──▶ ending
 *      ▲                 │                     │                                     │
 *      └─────settle──────┴────────exit─────────┴────────────────exit─────────────────┘
 *
 * A removal may begin in any state and lasts until the container is gone or the removal fails; the run continues
 * meanwhile.
 */
import type { AgentLink } from "./agent-link.ts";
import type { StartCaller } from "../start/start-caller.ts";
import type { StartPhases } from "./start-phases.ts";

/** A start in progress. */
export interface StartUnderWay {
  /** Resolves when it has succeeded or failed. */
  readonly over: Promise<void>;
  /** Settles like the start. */
  readonly outcome: Promise<void>;
  /** The call that gets its result; undefined if there is none. */
  caller: StartCaller | undefined;
  /** Cancels it with an error for its caller. */
  readonly ending: AbortController;
  /** Why it waits for the platform, in the platform's words; empty if it does not. */
  waitsFor: string;
  readonly phases: StartPhases;
}

/** Nothing runs. */
interface Idle {
  readonly kind: "idle";
  /** Cause of the next start: none, a user's restart, or the policy after its delay. */
  readonly next: "nothing" | "user" | AbortController;
}

/** A start is in progress and holds the container's lock. */
interface Starting {
  readonly kind: "starting";
  readonly start: StartUnderWay;
  /** Set once its agent answers, until the start fails. */
  readonly link: AgentLink | undefined;
}

interface Running {
  readonly kind: "running";
  readonly link: AgentLink;
}

/** A user ends it: no policy restarts it. */
interface Ending {
  readonly kind: "ending";
  readonly link: AgentLink;
  /** A user's signal, or a restart that has sent or is about to send one. */
  readonly by: "signal" | "signal-of-restart" | "restart";
}

type Phase = Idle | Starting | Running | Ending;

/** A removal is in progress. */
interface Removing {
  readonly kind: "removing";
  readonly run: Phase;
}

const idle: Idle = { kind: "idle", next: "nothing" };

/** The run of one container. */
export class LiveRun {
  #state: Phase | Removing = idle;

  /** The start in progress. */
  get start(): StartUnderWay | undefined {
    return this.#phase.kind === "starting" ? this.#phase.start : undefined;
  }

  /** The agent, while the container starts or runs. */
  get link(): AgentLink | undefined {
    return this.#phase.kind === "idle" ? undefined : this.#phase.link;
  }

  /** A removal is in progress. */
  get isRemoving(): boolean {
    return this.#state.kind === "removing";
  }

  /** A user wants the run to end: no policy restarts the container. */
  get isEndedByUser(): boolean {
    return this.#state.kind === "removing" || this.#phase.kind === "ending" || this.isRestarted;
  }

  /** A user restarts the container, and the start has not begun yet. */
  get isRestarted(): boolean {
    const phase = this.#phase;
    return phase.kind === "idle" ? phase.next === "user" : phase.kind === "ending" && phase.by !== "signal";
  }

  /** Begins a start. */
  begin(start: StartUnderWay): void {
    if (this.#phase.kind !== "idle") {
      throw new Error(`a container that is ${this.#phase.kind} cannot be started`);
    }
    this.#phase = { kind: "starting", start, link: undefined };
  }

  /** Sets the link to the agent of the current start, or of a run that continued while no backend was there. */
  meet(link: AgentLink): void {
    const phase = this.#phase;
    this.link?.close();
    this.#phase = phase.kind === "starting" ? { ...phase, link } : { kind: "running", link };
  }

  /** Marks the current start as successful. */
  succeed(): void {
    const phase = this.#phase;
    if (phase.kind === "starting" && phase.link !== undefined) {
      this.#phase = { kind: "running", link: phase.link };
    }
  }

  /** Ends the current start; if it has not succeeded, nothing runs. */
  settle(): void {
    const phase = this.#phase;
    if (phase.kind === "starting") {
      this.#phase = idle;
      phase.link?.close();
    }
  }

  /** Marks that a user's signal is to end the run. */
  endByUser(): void {
    const phase = this.#phase;
    if (phase.kind === "running") {
      this.#phase = { ...phase, kind: "ending", by: "signal" };
    } else if (phase.kind === "ending" && phase.by === "restart") {
      this.#phase = { ...phase, by: "signal-of-restart" };
    }
  }

  /** Begins a user's restart: the exit neither removes the container nor triggers its policy. */
  endForRestart(): void {
    const phase = this.#phase;
    if (phase.kind === "running") {
      this.#phase = { ...phase, kind: "ending", by: "restart" };
    } else if (phase.kind === "ending") {
      this.#phase = { ...phase, by: phase.by === "restart" ? "restart" : "signal-of-restart" };
    } else if (phase.kind === "idle") {
      this.endWait();
      this.#phase = { kind: "idle", next: "user" };
    }
  }

  /** Ends a user's restart, even one that failed before its start. */
  endRestart(): void {
    const phase = this.#phase;
    if (phase.kind === "ending") {
      const { link, by } = phase;
      this.#phase = by === "restart" ? { kind: "running", link } : { ...phase, by: "signal" };
    } else if (phase.kind === "idle" && phase.next === "user") {
      this.#phase = idle;
    }
  }

  /** Begins the delay of a restart by policy. @param wait aborts it */
  awaitRestart(wait: AbortController): void {
    if (this.#phase.kind === "idle") {
      this.#phase = { kind: "idle", next: wait };
    }
  }

  /** Cancels a pending restart by policy; one that has begun continues. */
  endWait(): void {
    const phase = this.#phase;
    if (phase.kind === "idle" && phase.next instanceof AbortController) {
      this.#phase = idle;
      phase.next.abort();
    }
  }

  /** Drops the link, as the run has ended or its agent is abandoned. A start in progress continues. */
  leave(): void {
    const phase = this.#phase;
    const { link } = this;
    if (phase.kind === "starting") {
      this.#phase = { ...phase, link: undefined };
    } else if (phase.kind !== "idle") {
      this.#phase = this.isRestarted ? { kind: "idle", next: "user" } : idle;
    }
    link?.close();
  }

  /** Notes that this process pauses or unpauses the container. */
  changePause(): void {
    if (this.link !== undefined) {
      this.link.pauseChanged = true;
    }
  }

  /** Runs a removal, during which the container is neither started nor removed otherwise. */
  async remove(work: () => Promise<void>): Promise<void> {
    this.#state = { kind: "removing", run: this.#phase };
    try {
      await work();
    } finally {
      this.#state = this.#phase;
    }
  }

  get #phase(): Phase {
    return this.#state.kind === "removing" ? this.#state.run : this.#state;
  }

  set #phase(phase: Phase) {
    this.#state = this.#state.kind === "removing" ? { kind: "removing", run: phase } : phase;
  }
}
