/**
 * The live run of a container: what this process knows it to be doing. One state at a time, and every transition is here.
 *
 *     idle ──begin──▶ starting ──succeed──▶ running ──endByUser, endForRestart──▶ ending
 *      ▲                 │                     │                                     │
 *      └─────settle──────┴────────exit─────────┴────────────────exit─────────────────┘
 *
 * A removal may begin in any of them and lasts until the container is gone, or stays after all: what its run does
 * meanwhile goes on inside of it.
 */
import type { AgentLink } from "./agent-link.ts";
import type { StartCaller } from "../start/start-caller.ts";
import type { StartPhases } from "./start-phases.ts";

/** A start that is under way. */
export interface StartUnderWay {
  /** Resolves when it is over, well or not. */
  readonly over: Promise<void>;
  /** Ends as it does. */
  readonly outcome: Promise<void>;
  /** The call that is answered with that; undefined: nobody has asked for it. */
  caller: StartCaller | undefined;
  /** Ends it, with what it is to answer. */
  readonly ending: AbortController;
  /** Why it waits for the platform, in the platform's words; empty: it does not. */
  waitsFor: string;
  readonly phases: StartPhases;
}

/** Nothing runs. */
interface Idle {
  readonly kind: "idle";
  /** Cause of the next start: none, a user who restarts it, or its policy, when this wait is over. */
  readonly next: "nothing" | "user" | AbortController;
}

/** A start is under way; it holds the container's lock. */
interface Starting {
  readonly kind: "starting";
  readonly start: StartUnderWay;
  /** Once its agent answers, until the start fails. */
  readonly link: AgentLink | undefined;
}

interface Running {
  readonly kind: "running";
  readonly link: AgentLink;
}

/** A user ends it: no policy starts it again. */
interface Ending {
  readonly kind: "ending";
  readonly link: AgentLink;
  /** A user's signal, or a restart that has sent one, or is about to. */
  readonly by: "signal" | "signal-of-restart" | "restart";
}

type Phase = Idle | Starting | Running | Ending;

/** A removal is under way. */
interface Removing {
  readonly kind: "removing";
  readonly run: Phase;
}

const idle: Idle = { kind: "idle", next: "nothing" };

/** The run of one container. */
export class LiveRun {
  #state: Phase | Removing = idle;

  /** The start that is under way. */
  get start(): StartUnderWay | undefined {
    return this.#phase.kind === "starting" ? this.#phase.start : undefined;
  }

  /** The agent, while the container starts or runs. */
  get link(): AgentLink | undefined {
    return this.#phase.kind === "idle" ? undefined : this.#phase.link;
  }

  /** A removal is under way. */
  get isRemoving(): boolean {
    return this.#state.kind === "removing";
  }

  /** A user wants the run to end: no policy starts the container again. */
  get isEndedByUser(): boolean {
    return this.#state.kind === "removing" || this.#phase.kind === "ending" || this.isRestarted;
  }

  /** A user restarts the container, and the start that follows is not under way yet. */
  get isRestarted(): boolean {
    const phase = this.#phase;
    return phase.kind === "idle" ? phase.next === "user" : phase.kind === "ending" && phase.by !== "signal";
  }

  /** A start begins. */
  begin(start: StartUnderWay): void {
    if (this.#phase.kind !== "idle") {
      throw new Error(`a container that is ${this.#phase.kind} cannot be started`);
    }
    this.#phase = { kind: "starting", start, link: undefined };
  }

  /** The agent answers: of the start that is under way, or of a run that went on while no backend was there. */
  meet(link: AgentLink): void {
    const phase = this.#phase;
    this.link?.close();
    this.#phase = phase.kind === "starting" ? { ...phase, link } : { kind: "running", link };
  }

  /** The start that is under way has succeeded. */
  succeed(): void {
    const phase = this.#phase;
    if (phase.kind === "starting" && phase.link !== undefined) {
      this.#phase = { kind: "running", link: phase.link };
    }
  }

  /** The start is over: one that has not succeeded has left nothing that runs. */
  settle(): void {
    const phase = this.#phase;
    if (phase.kind === "starting") {
      this.#phase = idle;
      phase.link?.close();
    }
  }

  /** A user sends a signal by which the run is to end. */
  endByUser(): void {
    const phase = this.#phase;
    if (phase.kind === "running") {
      this.#phase = { ...phase, kind: "ending", by: "signal" };
    } else if (phase.kind === "ending" && phase.by === "restart") {
      this.#phase = { ...phase, by: "signal-of-restart" };
    }
  }

  /** A user restarts the container: its exit is no reason to remove it, and its policy need not start it. */
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

  /** The user's restart is over, also one that has failed before it started anything. */
  endRestart(): void {
    const phase = this.#phase;
    if (phase.kind === "ending") {
      const { link, by } = phase;
      this.#phase = by === "restart" ? { kind: "running", link } : { ...phase, by: "signal" };
    } else if (phase.kind === "idle" && phase.next === "user") {
      this.#phase = idle;
    }
  }

  /** The policy starts the container when the wait is over. @param wait ends it */
  awaitRestart(wait: AbortController): void {
    if (this.#phase.kind === "idle") {
      this.#phase = { kind: "idle", next: wait };
    }
  }

  /** No restart by policy comes any more; one that has begun goes on. */
  endWait(): void {
    const phase = this.#phase;
    if (phase.kind === "idle" && phase.next instanceof AbortController) {
      this.#phase = idle;
      phase.next.abort();
    }
  }

  /** The run has ended, or its agent is left: there is no link any more. A start that is under way goes on to its end. */
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

  /** This process pauses or thaws the container. */
  changePause(): void {
    if (this.link !== undefined) {
      this.link.pauseChanged = true;
    }
  }

  /** Does what removes the container; meanwhile nobody else starts or removes it. */
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
