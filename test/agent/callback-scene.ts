/** Agents that call, and backends as far as these see them, for the tests of a `describe`. */
import "reflect-metadata";

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "node:test";

import { createAgentClient } from "../../src/agent-client/client.ts";
import type { FoundAgent } from "../../src/backends/cloud/contract/agent-finder.ts";
import { type AgentProof, secretProof } from "../../src/backends/cloud/agents/agent-proof.ts";
import { calledAgents } from "../../src/backends/cloud/agents/called-agents.ts";
import { readAuthority } from "../../src/backends/cloud/authority/authority-file.ts";
import { type CloudAuthority, createAuthority } from "../../src/backends/cloud/authority/authority.ts";
import { Relay } from "../../src/backends/cloud/callback/relay.ts";
import { instanceOf } from "../../src/backends/cloud/authority/instance.ts";
import { createSealer, type Sealer } from "../../src/backends/cloud/authority/seal.ts";
import { capturedLogger } from "../../src/backends/cloud/testing/captured-logger.ts";
import { systemClock } from "../../src/common/clock.ts";
import { startTlsEndingProxy, type TlsEndingProxy } from "../support/tls-ending-proxy.ts";
import { type AgentProcess, pinText, spawnInitAgent } from "./init-agent.ts";

/** A backend as far as agents that call see it. */
export interface Backend {
  readonly relay: Relay;
  readonly authority: CloudAuthority;
  readonly sealer: Sealer;
  /** Its instance, as agents name it. */
  readonly instance: string;
  readonly warnings: () => string[];
}

/** The task of each container. */
export const firstStart = { task: "task", address: "", launchGeneration: 1n } as const;

/** Hooks of a `describe`, and what its tests start, all of which ends with each test. */
export function callbackScene() {
  let resources: AsyncDisposableStack;
  let directory: string;
  beforeEach(async () => {
    resources = new AsyncDisposableStack();
    directory = await mkdtemp(join(tmpdir(), "skl-callback-"));
    resources.defer(() => rm(directory, { recursive: true }));
  });
  afterEach(async () => {
    await resources.disposeAsync();
  });

  const startBackend = async (name = "one"): Promise<Backend> => {
    const key = await readAuthority(join(directory, `${name}.pem`));
    const authority = await createAuthority(key, systemClock);
    const instance = instanceOf(authority).replace("sockerless/", "");
    const sealer = createSealer(key.secret);
    const { logger, warnings } = capturedLogger();
    const relay = resources.use(
      await Relay.start({
        listen: "tcp://127.0.0.1:0",
        path: join(directory, `${name}.sock`),
        instance,
        callKey: sealer.callKey,
        logger,
      }),
    );
    return { relay, authority, sealer, instance, warnings };
  };
  const portOf = ({ relay }: Backend): number => Number(new URL(relay.address).port);
  const startProxy = async (backend: Backend, idleMs?: number): Promise<TlsEndingProxy> =>
    resources.use(
      await startTlsEndingProxy(directory, portOf(backend), idleMs === undefined ? {} : { idleMs }),
    );
  const startAgent = (
    { authority, sealer }: Backend,
    containerId: string,
    url: string,
    env: Readonly<Record<string, string>> = {},
  ): AgentProcess =>
    resources.use(
      spawnInitAgent({
        SOCKERLESS_CONTAINER_ID: containerId,
        SOCKERLESS_CLIENT_CA_PIN: pinText(authority.pin),
        SOCKERLESS_CALLBACK_URL: url,
        SOCKERLESS_CALLBACK_TOKEN: sealer.callToken(containerId, firstStart.launchGeneration),
        ...env,
      }),
    );
  const secretOf = ({ sealer }: Backend, containerId: string): Record<string, string> => ({
    SOCKERLESS_CALLBACK_SECRET: sealer.callbackSecret(containerId, 1n),
  });
  const finderOf = (backend: Backend, given?: AgentProof) => {
    const { relay, authority, sealer } = backend;
    const ownSecret = secretProof((containerId) => sealer.callbackSecret(containerId, 1n));
    const { logger, warnings, lines } = capturedLogger();
    const finder = calledAgents({
      relay,
      authority,
      proof: given ?? ownSecret,
      url: "https://backend",
      reachOneAnother: false,
      clock: systemClock,
      logger,
    });
    return { finder, warnings, told: () => lines.map(({ msg }) => String(msg)) };
  };
  const meet = (backend: Backend, containerId: string): Promise<FoundAgent> =>
    finderOf(backend).finder.await(containerId, firstStart, AbortSignal.timeout(120_000));
  const clientOf = ({ relay, authority }: Backend, containerId: string, { pin }: FoundAgent) => {
    const agent = createAgentClient(
      { kind: "called", path: relay.path, pin },
      { containerId, credentials: () => authority.credentialsFor(containerId) },
    );
    resources.defer(() => agent.close());
    return agent.client;
  };

  return {
    ...{ startBackend, portOf, startProxy, startAgent, secretOf, finderOf, meet, clientOf },
    /** Ends something with the test. */
    defer: (end: () => unknown): void => resources.defer(async () => void (await end())),
    directory: (): string => directory,
  };
}
