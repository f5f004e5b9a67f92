/** The backend's side of the relay for callback agents: a thread, and what it has reported. */
import "reflect-metadata";

import { rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";

import { PemConverter, X509CertificateGenerator } from "@peculiar/x509";

import { messageOf, systemError, unavailable } from "../../../common/errors.ts";
import { getOrInsert } from "../../../common/get-or-insert.ts";
import type { Logger } from "../../../common/logger.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { logStrangers } from "../../../common/strangers.ts";
import { keyAlgorithm, randomSerial } from "../authority/authority-file.ts";
import type { Caller, Calling, FromRelay, Grant, RelaySettings, ToRelay } from "./relay-messages.ts";

/** Delay before a thread that has ended is replaced. */
const restartMs = 1_000;

/** Settings of a {@link Relay}. */
export interface RelayOptions extends Pick<RelaySettings, "listen" | "path" | "callKey"> {
  /** Name of this instance; its last part is in the paths that agents call. */
  readonly instance: string;
  readonly logger: Logger;
}

/** Callback agents, and the socket for reaching them. */
export class Relay implements AsyncDisposable {
  /** Unix socket. */
  readonly path: string;
  readonly #settings: RelaySettings;
  readonly #logger: Logger;
  /** The last call of each connected agent, by container and key; the longest waiting first. */
  readonly #callers = new Map<string, Map<string, { readonly call: number; readonly caller: Calling }>>();
  #calls = 0;
  /** By container; sent again to a replaced thread. */
  readonly #grants = new Map<string, Grant>();
  readonly #changed = new EventTarget();
  readonly #ended = new AbortController();
  #thread: Worker | undefined;
  #address = "";

  /** Listens. @throws system: the address cannot be bound */
  static async start(options: RelayOptions): Promise<Relay> {
    const { key, certificate } = await listenerCertificate();
    const instance = options.instance.replace(/^.*\//, "");
    const relay = new Relay({ ...options, instance, key, certificate }, options.logger);
    await relay.#run();
    return relay;
  }

  private constructor({ listen, key, certificate, path, instance, callKey }: RelaySettings, logger: Logger) {
    this.#settings = { listen, key, certificate, path, instance, callKey };
    this.path = path;
    this.#logger = logger;
  }

  /** Address at which agents call: `tcp://address:port`, with the actual port if 0 was configured. */
  get address(): string {
    return this.#address;
  }

  /**
   * Keys that call for a container, now waiting and future ones, each as often as it calls, in order of their calls.
   *
   * @throws the signal's reason; unavailable: the relay was closed
   */
  async *callersOf(containerId: string, signal: AbortSignal): AsyncGenerator<Calling> {
    let last = 0;
    for (;;) {
      signal.throwIfAborted();
      this.#ended.signal.throwIfAborted();
      const next = [...(this.#callers.get(containerId)?.values() ?? [])].find(({ call }) => call > last);
      if (next === undefined) {
        await this.#nextOf(containerId, signal);
      } else {
        last = next.call;
        yield next.caller;
      }
    }
  }

  /** Whether a caller has a connection, in use or not. */
  has({ containerId, pin }: Caller): boolean {
    return this.#callers.get(containerId)?.has(pin) === true;
  }

  /** Refuses a caller with a wrong identity. */
  refuse(caller: Caller): void {
    this.#tell({ kind: "refuse", caller });
  }

  /** Sets the agents that a container's agent may be joined with; undefined for none. */
  allow(containerId: string, grant: Grant | undefined): void {
    if (grant === undefined) {
      this.#grants.delete(containerId);
    } else {
      this.#grants.set(containerId, grant);
    }
    this.#tell({ kind: "allow", containerId, grant });
  }

  /** Closes all connections. */
  async close(): Promise<void> {
    this.#ended.abort(unavailable("the relay of agents was closed"));
    const thread = this.#thread;
    if (thread !== undefined) {
      this.#tell({ kind: "close" });
      await new Promise((resolve) => void thread.once("exit", resolve));
    }
    await rm(this.path, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #tell(message: ToRelay): void {
    this.#thread?.postMessage(message);
  }

  #nextOf(containerId: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const either = AbortSignal.any([signal, this.#ended.signal]);
      const leaving = onAbort(either, () => {
        this.#changed.removeEventListener(containerId, come);
        reject(either.reason);
      });
      const come = (): void => {
        leaving[Symbol.dispose]();
        resolve();
      };
      this.#changed.addEventListener(containerId, come, { once: true });
    });
  }

  /** Starts the thread; resolves once it listens. */
  async #run(): Promise<void> {
    await rm(this.path, { force: true });
    this.#ended.signal.throwIfAborted();
    const listening = Promise.withResolvers<void>();
    const thread = new Worker(new URL("./relay-thread.js", import.meta.url), { workerData: this.#settings });
    this.#thread = thread;
    for (const [containerId, grant] of this.#grants) {
      this.#tell({ kind: "allow", containerId, grant });
    }
    let failure: unknown;
    let listens = false;
    thread.on("error", (error) => {
      failure = error;
    });
    thread.on("message", (message: FromRelay) =>
      this.#hear(message, () => {
        listens = true;
        listening.resolve();
      }),
    );
    thread.once("exit", () => {
      this.#thread = undefined;
      this.#callers.clear();
      listening.reject(systemError(`cannot wait for agents: ${messageOf(failure)}`, failure));
      if (listens) {
        void this.#replace(failure);
      }
    });
    await listening.promise;
  }

  /** Replaces a thread that has ended, however often its start fails: the machine may be short of threads. */
  async #replace(reason: unknown): Promise<void> {
    let failure = reason;
    while (!this.#ended.signal.aborted) {
      this.#logger.error({ err: failure }, "the relay of agents has failed and is started again");
      await delay(restartMs, undefined, { ref: false });
      try {
        await this.#run();
        return;
      } catch (error) {
        failure = error;
      }
    }
  }

  #hear(message: FromRelay, listening: () => void): void {
    switch (message.kind) {
      case "listening":
        this.#address = message.address;
        listening();
        break;
      case "called": {
        const { caller } = message;
        const { containerId, pin } = caller;
        const known = getOrInsert(this.#callers, containerId, () => new Map());
        known.delete(pin); // Moves it to the end, so that the callers behind it get their turn.
        known.set(pin, { call: ++this.#calls, caller });
        this.#changed.dispatchEvent(new Event(containerId));
        break;
      }
      case "left": {
        const { containerId, pin } = message.caller;
        const known = this.#callers.get(containerId);
        known?.delete(pin);
        if (known?.size === 0) {
          this.#callers.delete(containerId);
        }
        break;
      }
      case "log":
        this.#logger[message.level](message.values, message.message);
        break;
      case "turned-away":
      case "hung-up":
        logStrangers(this.#logger, message);
        break;
    }
  }
}

/** A key and certificate for the listener's outer TLS, which proxies may terminate and agents do not verify. */
async function listenerCertificate(): Promise<Pick<RelaySettings, "key" | "certificate">> {
  const keys = await crypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: "CN=sockerless callback",
    keys,
    signingAlgorithm: keyAlgorithm,
  });
  const key = PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
  return { key, certificate: certificate.toString("pem") };
}
