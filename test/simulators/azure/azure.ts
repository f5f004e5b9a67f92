/** The simulated Azure: one subscription with one resource group, which speaks Azure's protocols and really runs jobs. */
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";

import { makeCertificates } from "../../support/certificates.ts";
import { CallLog } from "../common/calls.ts";
import { SimulatedClock } from "../common/clock.ts";
import { Faults } from "../common/faults.ts";
import { claimDirectory } from "../common/machine/leftovers.ts";
import { Machine } from "../common/machine/machine.ts";
import { Rates } from "../common/rates.ts";
import { SimulatedCloud } from "../common/simulated-cloud.ts";
import { HttpEndpoint, type WireAnswer, type WireRequest } from "../common/wire/http-endpoint.ts";
import type { Context } from "./context.ts";
import { identityPath, serveIdentity } from "./entra/endpoints.ts";
import { Entra, type Principal } from "./entra/entra.ts";
import { authorizationProvider } from "./services/authorization.ts";
import { App } from "./services/app/app.ts";
import { Logs } from "./services/logs/logs.ts";
import { Registry } from "./services/registry/registry.ts";
import { mountShare } from "./services/storage/mounts.ts";
import { Storage } from "./services/storage/storage.ts";
import { type Delays, defaultSwitches, noDelays, type Switches } from "./switches.ts";
import { Arm } from "./wire/arm.ts";
import { notSimulated } from "./wire/fault.ts";
import { publishedRates } from "./wire/rates.ts";

/** Settings of a simulated subscription. */
export interface AzureOptions {
  readonly location?: string;
  readonly delays?: Partial<Delays>;
  readonly switches?: Partial<Switches>;
  /** Whether executions only go through the motions, with no machine behind them: to count calls with thousands of them. */
  readonly lightweight?: boolean;
}

/** Names and IDs of a fresh subscription's contents. */
export interface Subscription {
  readonly subscriptionId: string;
  readonly tenantId: string;
  readonly resourceGroup: string;
  readonly location: string;
  /** The managed environment. */
  readonly environment: string;
  readonly environmentId: string;
  /** `customerId` of the Log Analytics workspace. */
  readonly workspaceId: string;
  /** The storage account, and its first key. */
  readonly storageAccount: string;
  readonly storageAccountKey: string;
}

/** A running simulator. */
export class Azure extends SimulatedCloud<Context> {
  /** `https://127.0.0.1:port`: Resource Manager, Entra ID and Log Analytics. */
  readonly endpoint: string;
  /** `http://127.0.0.1:port`: tokens of managed identities. */
  readonly identityEndpoint: string;
  /** Path of the PEM of the authority that signed {@link endpoint}'s certificate. */
  readonly caFile: string;
  readonly subscription: Subscription;
  /** The jobs' executions, and what no call of the API does to them. */
  readonly app: App;
  /** Storage accounts and their shares. */
  readonly storage: Storage;
  /** The container registry. */
  readonly registry: Registry;
  /**
   * This machine's address as replicas see it: where something must listen that they are to reach. Lightweight
   * subscriptions have 127.0.0.1.
   */
  readonly hostAddress: string;

  constructor(
    parts: Pick<
      Azure,
      | "endpoint"
      | "identityEndpoint"
      | "caFile"
      | "context"
      | "subscription"
      | "app"
      | "storage"
      | "registry"
      | "hostAddress"
    >,
    stack: AsyncDisposableStack,
  ) {
    super(parts.context, stack);
    this.endpoint = parts.endpoint;
    this.identityEndpoint = parts.identityEndpoint;
    this.caFile = parts.caFile;
    this.subscription = parts.subscription;
    this.app = parts.app;
    this.storage = parts.storage;
    this.registry = parts.registry;
    this.hostAddress = parts.hostAddress;
  }

  get entra(): Entra {
    return this.context.entra;
  }

  /** The keys of the `aca:` section of a configuration that uses this subscription, without the callback's. */
  get config(): Record<string, string> {
    const { subscription } = this;
    return {
      subscription_id: subscription.subscriptionId,
      resource_group: subscription.resourceGroup,
      managed_environment_name: subscription.environment,
      location: subscription.location,
      log_analytics_workspace_id: subscription.workspaceId,
      storage_account_name: subscription.storageAccount,
      storage_account_key: subscription.storageAccountKey,
      registry_server: this.registry.host,
      registry_username: this.registry.name,
      registry_password: this.registry.password,
      endpoint: this.endpoint,
      logs_endpoint: this.endpoint,
      files_endpoint: `${this.endpoint}/files/${subscription.storageAccount}`,
    };
  }

  /** Environment variables by which another process' `DefaultAzureCredential` is this principal, and trusts the endpoint. */
  environmentFor(principal: Principal = this.entra.administrator): Record<string, string> {
    return {
      IDENTITY_ENDPOINT: `${this.identityEndpoint}${identityPath}`,
      IDENTITY_HEADER: this.entra.headerFor(principal),
      NODE_EXTRA_CA_CERTS: this.caFile,
    };
  }

  /** Lets this process trust the endpoint from now on. */
  async trustHere(): Promise<void> {
    setDefaultCACertificates([...getCACertificates("default"), await readFile(this.caFile, "utf8")]);
  }

  /** A token for Resource Manager, for requests by hand. */
  token(principal: Principal = this.entra.administrator, audience = "https://management.azure.com"): string {
    return this.entra.issue(principal, audience).token;
  }
}

/** Starts a simulated subscription. */
export async function startAzure(options: AzureOptions = {}): Promise<Azure> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "sockerless-azure-"));
  stack.defer(() => rm(directory, { recursive: true }));
  const clock = new SimulatedClock();
  stack.defer(() => clock.stop());
  const switches = { ...defaultSwitches(), ...options.switches };
  const tenantId = randomUUID();
  const context: Context = {
    subscriptionId: randomUUID(),
    tenantId,
    resourceGroup: "sockerless",
    location: options.location ?? "westeurope",
    clock,
    calls: new CallLog(),
    faults: new Faults(),
    rates: new Rates(clock, []),
    delays: { ...noDelays(), ...options.delays },
    switches,
    entra: new Entra(tenantId, clock),
    directory,
  };
  await claimDirectory(directory);
  const machine =
    options.lightweight === true
      ? undefined
      : stack.use(await Machine.start({ directory, sleep: (ms, signal) => clock.sleep(ms, signal) }));
  const storage = new Storage(context, async (directory) => machine?.fileSystems.end(directory));
  const registry = stack.use(await Registry.start(context, "sockerless"));
  const logs = new Logs(context);
  const app: App = stack.use(
    await App.start(
      context,
      {
        mount: (mount) =>
          machine === undefined
            ? Promise.reject(notSimulated("a share without a machine"))
            : mountShare(storage, machine, mount),
        registries: registry,
        onLine: (line) => {
          const environment = app.environments.byId(line.environmentId);
          logs.put(environment?.workspaceId ?? "", line);
        },
      },
      machine,
    ),
  );
  const providers = [app.provider, storage.provider, registry.provider, authorizationProvider(context)];
  context.rates.define(publishedRates(providers));
  const arm = new Arm(context);
  for (const provider of providers) {
    arm.add(provider);
  }
  const { endpoint, caFile } = await listen(
    context,
    stack,
    async (request, requestId) =>
      storage.serveFiles(request) ??
      (await (logs.serves(request) ? logs.serve(request, requestId) : arm.serve(request, requestId))),
  );
  const identity = new HttpEndpoint("Azure's identities", (request) =>
    Promise.resolve(serveIdentity(context, request)),
  );
  const identityEndpoint = await identity.listen();
  stack.defer(() => identity.close());
  const subscription = prepare(context, app, storage, logs);
  const hostAddress = machine?.vpc.hostAddress ?? "127.0.0.1";
  return new Azure(
    { endpoint, identityEndpoint, caFile, context, subscription, app, storage, registry, hostAddress },
    stack.move(),
  );
}

/** Opens the endpoint with TLS, as the SDKs send tokens by nothing else. */
async function listen(
  context: Context,
  stack: AsyncDisposableStack,
  serve: (request: WireRequest, requestId: string) => Promise<WireAnswer>,
): Promise<{ readonly endpoint: string; readonly caFile: string }> {
  const folder = join(context.directory, "certificates");
  await mkdir(folder);
  const { server: files } = await makeCertificates(folder);
  const [key, cert] = await Promise.all([readFile(files.key, "utf8"), readFile(files.cert, "utf8")]);
  const server = new HttpEndpoint("Azure", serve, { key, cert });
  const endpoint = await server.listen();
  stack.defer(() => server.close());
  return { endpoint, caFile: files.ca };
}

/** Makes what a user makes before sockerless runs. */
function prepare(context: Context, app: App, storage: Storage, logs: Logs): Subscription {
  const { subscriptionId, tenantId, resourceGroup, location } = context;
  const environment = "sockerless";
  const workspaceId = randomUUID();
  logs.add("sockerless", workspaceId);
  const { id: environmentId } = app.environments.add(environment, workspaceId);
  const account = storage.add("sockerless");
  return {
    subscriptionId,
    tenantId,
    resourceGroup,
    location,
    environment,
    environmentId,
    workspaceId,
    storageAccount: account.name,
    storageAccountKey: account.keys[0],
  };
}
