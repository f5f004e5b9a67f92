/** Containers' lives on a cloud whose backend is killed, for a {@link KillSweep}. */
import assert from "node:assert/strict";

import type { CommandResult } from "./command.ts";
import type { Daemon } from "./daemon.ts";
import { type ApiResponse, callApi } from "./call-api.ts";
import type { ContainerDetail } from "./engine-api.ts";
import type { Life } from "./kill-sweep.ts";
import { isAlive, processOf } from "./processes.ts";
import { until, untilTrue } from "./until.ts";

/** How lives go. */
export type Scene =
  /** Its steps count from the first command on. */
  | "undisturbed"
  /** From a stop on the agents do not answer: else they end what runs them themselves. */
  | "cut off"
  /** The backend is killed between two commands already: what the next one does as it begins are its first steps. */
  | "begun again";

/** A cloud, and a daemon with nothing in it. */
export interface LifeCloud {
  readonly daemon: Daemon;
  /** More options for the container that ends by itself. */
  readonly onceOptions?: readonly string[];
  /** How many tasks of a container, by its full ID, run or are to. */
  running(id: string): number | Promise<number>;
  /** Cuts agents off, for that scene. */
  cutOff?(): Promise<void>;
  /** Waits until nothing is left of a life of which nothing was killed; default: {@link settle} alone. */
  settleByItself?(): Promise<void>;
  /** Waits until nothing is left of a life. */
  settle(): Promise<void>;
}

/** Lives one after the other, before and after each of which there is nothing. */
export class LifeThroughKills {
  readonly #cloud: LifeCloud;

  constructor(cloud: LifeCloud) {
    this.#cloud = cloud;
  }

  /** A life and its end. */
  of(scene: Scene): Life {
    return {
      live: async (begin) => {
        await this.#live(scene, begin);
      },
      settle: () => this.#cloud.settle(),
    };
  }

  /** One of which nothing is killed, and all has to succeed. */
  undisturbed(scene: Scene): Life {
    return {
      live: async (begin) => {
        const { ran, told } = await this.#live(scene, begin);
        assert.equal(ran, scene === "begun again" ? 1 : 2, told);
      },
      settle: async () => {
        await this.#cloud.settleByItself?.();
        await this.#cloud.settle();
      },
    };
  }

  /**
   * A container's life, and that of another that ends by itself and is started again, up to where nothing of them and of
   * what they use is left. The state has to agree with the cloud afterwards, whatever becomes of each command.
   *
   * @returns how often the other has run, and what commands that failed have said
   */
  async #live(
    scene: Scene,
    begin: () => Promise<void>,
  ): Promise<{ readonly ran: number; readonly told: string }> {
    const { daemon, onceOptions = [] } = this.#cloud;
    const failures: string[] = [];
    const docker = async (...args: string[]): Promise<CommandResult> => {
      const result = await daemon.docker(...args);
      if (result.code !== 0) {
        failures.push(`docker ${args.join(" ")}: ${result.code}, ${result.errorText}`);
      }
      await this.#listed("/containers/json"); // It serves again.
      return result;
    };
    if (scene === "undisturbed") {
      await begin();
    }
    await docker("network", "create", "lane");
    await docker("network", "create", "side");
    const own = ["--volume=kept:/kept", "--network=lane"];
    const runs = [await docker("run", "--name=once", ...own, ...onceOptions, "busybox", "echo", "ran")];
    const lasting = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
    await docker("run", "--detach", "--name=life", ...own, "busybox", ...lasting);
    await docker("network", "connect", "side", "life");
    await docker("network", "disconnect", "side", "life");
    if (scene === "cut off") {
      assert.ok(this.#cloud.cutOff !== undefined);
      await this.#cloud.cutOff();
      await begin();
    }
    if (scene === "begun again") {
      const backend = await processOf(daemon, "backend");
      await begin();
      if (isAlive(backend)) {
        process.kill(backend, "SIGKILL"); // It may have come to the step by itself.
      }
      await processOf(daemon, "backend", backend);
    } else {
      await docker("stop", "--timeout=2", "life");
      await docker("start", "life"); // In its task, which lingers.
      const once = (await this.#find("once"))?.Id;
      await untilTrue(async () => once === undefined || (await this.#cloud.running(once)) === 0);
      runs.push(await docker("start", "--attach", "once")); // In another task.
    }
    // A start that was under way is taken up, or taken back: at rest it runs, or has ended.
    for (const name of ["life", "once"]) {
      await untilTrue(async () => {
        const found = await this.#find(name);
        return found === undefined || ["running", "exited", "created"].includes(found.State.Status);
      });
    }
    for (const { Id } of await this.#listed<{ readonly Id: string }>("/containers/json?all=1")) {
      await untilTrue(async () => (await this.#cloud.running(Id)) <= 1);
    }
    const seen = runs.filter(({ code, text }) => code === 0 && text === "ran").length;
    const ran = await until(async () => {
      const { code, text, errorText } = await daemon.docker("logs", "once");
      const count = text.split("\n").filter((line) => line === "ran").length;
      const isTold = code === 0 || /No such container/.test(errorText); // Its creation may be what was cut off.
      return isTold && count >= seen ? count : undefined;
    });
    assert.ok(ran <= 2, `${ran} runs: each start happens once`);
    await this.#untilNone(["rm", "--force", "--volumes", "life", "once"], "/containers/json?all=1");
    const custom = encodeURIComponent(JSON.stringify({ type: ["custom"] }));
    await this.#untilNone(["network", "rm", "lane", "side"], `/networks?filters=${custom}`);
    await untilTrue(async () => {
      await daemon.docker("volume", "rm", "kept");
      const answer = await this.#get("/volumes");
      return answer?.status === 200 && (answer.json() as { Volumes: unknown[] }).Volumes.length === 0;
    });
    return { ran, told: failures.join("\n") };
  }

  /** An answer of the API; undefined: nobody serves. */
  async #get(path: string): Promise<ApiResponse | undefined> {
    return await callApi(this.#cloud.daemon.socket, "GET", `/v1.51${path}`).catch(() => undefined);
  }

  /** A list, once somebody serves. */
  #listed<T>(path: string): Promise<readonly T[]> {
    return until(async () => {
      const answer = await this.#get(path);
      return answer?.status === 200 ? (answer.json() as T[]) : undefined;
    });
  }

  /** A container, once somebody serves; undefined: there is none of this name. */
  async #find(name: string): Promise<ContainerDetail | undefined> {
    const found = await until(async () => {
      const answer = await this.#get(`/containers/${name}/json`);
      return answer !== undefined && [200, 404].includes(answer.status) ? answer : undefined;
    });
    return found.status === 200 ? (found.json() as ContainerDetail) : undefined;
  }

  /** Removes until nothing is listed any more: the step may be one of these. */
  #untilNone(remove: readonly string[], list: string): Promise<void> {
    return untilTrue(async () => {
      await this.#cloud.daemon.docker(...remove);
      return (await this.#listed(list)).length === 0;
    });
  }
}
