/** Managed environments and their storages. */
import type { Context } from "../../context.ts";
import { isSame, resourceId } from "../../context.ts";
import { loadSchemas } from "../../models/schema.ts";
import { ArmFault, notSimulated, resourceNotFound } from "../../wire/fault.ts";
import { type ArmCall, type ArmOperation, inGroup } from "../../wire/provider.ts";
import type { StorageBody } from "./bodies.ts";

/** A storage of an environment: a share and how it may be used. */
export interface EnvironmentStorage {
  readonly name: string;
  readonly properties: NonNullable<StorageBody["properties"]>;
  /** Simulated milliseconds since the epoch, from which on others than its maker see it. */
  readonly visibleAt: number;
}

/** A managed environment. */
export interface Environment {
  readonly name: string;
  readonly id: string;
  /** ID of the Log Analytics workspace that has its logs. */
  readonly workspaceId: string;
  readonly storages: Map<string, EnvironmentStorage>;
}

/** The part of other services that environments ask. */
export interface EnvironmentServices {
  /** Names of jobs whose template names a storage. */
  jobsWith(environment: Environment, storageName: string): readonly string[];
  /** Cores of executions that have not ended. */
  coresIn(environment: Environment): number;
}

const environmentType = "Microsoft.App/managedEnvironments";
const storagePattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const shareName = /^(?!.*--)[a-z0-9][-a-z0-9]{1,61}[a-z0-9]$/;
const schemas = loadSchemas("app");

/** The environments of the subscription. */
export class Environments {
  readonly #context: Context;
  readonly #all: Environment[] = [];

  constructor(context: Context) {
    this.#context = context;
  }

  /** Makes an environment, as an administrator does. */
  add(name: string, workspaceId: string): Environment {
    const id = resourceId(this.#context, `${environmentType}/${name}`);
    const environment = { name, id, workspaceId, storages: new Map<string, EnvironmentStorage>() };
    this.#all.push(environment);
    return environment;
  }

  /** The environment with this resource ID. */
  byId(id: string): Environment | undefined {
    return this.#all.find((each) => isSame(each.id, id));
  }

  /** A storage, once it can be seen. */
  storage({ storages }: Environment, name: string): EnvironmentStorage | undefined {
    const storage = storages.get(name.toLowerCase());
    return storage !== undefined && storage.visibleAt <= this.#context.clock.nowMs() ? storage : undefined;
  }

  operations(services: EnvironmentServices): ArmOperation[] {
    const path = (rest: string): string => inGroup("Microsoft.App", `/managedEnvironments${rest}`);
    const storages = path("/{environmentName}/storages");
    const body = { schema: schemas("ManagedEnvironmentStorage"), required: true };
    const right = (what: string): string => `${environmentType}/${what}`;
    return [
      {
        name: "ManagedEnvironments_Get",
        method: "GET",
        path: path("/{environmentName}"),
        action: right("read"),
        run: (call) => ({ status: 200, body: this.#show(this.#find(call)) }),
      },
      {
        name: "ManagedEnvironmentUsages_List",
        method: "GET",
        path: path("/{environmentName}/usages"),
        action: right("usages/read"),
        run: (call) => ({ status: 200, body: this.#showUsages(services.coresIn(this.#find(call))) }),
      },
      {
        name: "ManagedEnvironmentsStorages_List",
        method: "GET",
        path: storages,
        action: right("storages/read"),
        run: (call) => {
          const environment = this.#find(call);
          const seen = [...environment.storages.keys()].flatMap(
            (key) => this.storage(environment, key) ?? [],
          );
          return { status: 200, body: { value: seen.map((each) => this.#showStorage(environment, each)) } };
        },
      },
      {
        name: "ManagedEnvironmentsStorages_Get",
        method: "GET",
        path: `${storages}/{storageName}`,
        action: right("storages/read"),
        run: (call) => {
          const environment = this.#find(call);
          return { status: 200, body: this.#showStorage(environment, this.#findStorage(environment, call)) };
        },
      },
      {
        name: "ManagedEnvironmentsStorages_CreateOrUpdate",
        method: "PUT",
        path: `${storages}/{storageName}`,
        action: right("storages/write"),
        body,
        run: (call) => ({ status: 200, body: this.#putStorage(this.#find(call), call) }),
      },
      {
        name: "ManagedEnvironmentsStorages_Delete",
        method: "DELETE",
        path: `${storages}/{storageName}`,
        action: right("storages/delete"),
        run: (call) => {
          const environment = this.#find(call);
          return { status: this.#deleteStorage(environment, call, services) ? 200 : 204 };
        },
      },
    ];
  }

  #putStorage(environment: Environment, { path, body }: ArmCall): object {
    const { storageName = "" } = path;
    const { properties = {} } = body as StorageBody;
    checkStorage(storageName, properties);
    const { clock, switches } = this.#context;
    const key = storageName.toLowerCase();
    const before = environment.storages.get(key);
    const visibleAt = before?.visibleAt ?? clock.nowMs() + switches.eventualConsistencyMs;
    const storage = { name: storageName, properties, visibleAt };
    environment.storages.set(key, storage);
    return this.#showStorage(environment, storage);
  }

  #deleteStorage(environment: Environment, { path }: ArmCall, services: EnvironmentServices): boolean {
    const { storageName = "" } = path;
    const users = services.jobsWith(environment, storageName);
    if (users.length > 0) {
      const message = `Cannot delete Managed environment storage '${storageName}' because it's still in use.`;
      throw new ArmFault(409, "ManagedEnvironmentStorageInUse", message);
    }
    return environment.storages.delete(storageName.toLowerCase());
  }

  #find({ path }: ArmCall): Environment {
    const { environmentName = "", resourceGroupName = "" } = path;
    const environment = this.#all.find(({ name }) => isSame(name, environmentName));
    if (environment === undefined) {
      throw resourceNotFound(environmentType, environmentName, resourceGroupName);
    }
    return environment;
  }

  #findStorage(environment: Environment, { path }: ArmCall): EnvironmentStorage {
    const { storageName = "" } = path;
    const storage = this.storage(environment, storageName);
    if (storage === undefined) {
      const message = `Storage ${storageName} not found under managed environment`;
      throw new ArmFault(404, "ManagedEnvironmentStorageNotFound", message);
    }
    return storage;
  }

  #show({ id, name, workspaceId }: Environment): object {
    const { location } = this.#context;
    return {
      id,
      name,
      type: environmentType,
      location,
      properties: {
        provisioningState: "Succeeded",
        defaultDomain: `${name}.${location}.azurecontainerapps.io`,
        staticIp: "203.0.113.10",
        appLogsConfiguration: {
          destination: "log-analytics",
          logAnalyticsConfiguration: { customerId: workspaceId },
        },
        zoneRedundant: false,
        workloadProfiles: [{ name: "Consumption", workloadProfileType: "Consumption" }],
      },
    };
  }

  /** As the specification's example has it. */
  #showUsages(cores: number): object {
    const name = {
      localizedValue: "Managed Environment Consumption Cores",
      value: "ManagedEnvironmentConsumptionCores",
    };
    return {
      value: [{ currentValue: cores, limit: this.#context.switches.maxCores, name, unit: "Count" }],
    };
  }

  /** The key of an account is never told. */
  #showStorage({ id }: Environment, { name, properties }: EnvironmentStorage): object {
    const { azureFile, nfsAzureFile } = properties;
    const { accountKey: _, ...shown } = azureFile ?? {};
    return {
      id: `${id}/storages/${name}`,
      name,
      type: `${environmentType}/storages`,
      properties: {
        ...(azureFile !== undefined && { azureFile: shown }),
        ...(nfsAzureFile !== undefined && { nfsAzureFile }),
      },
    };
  }
}

function checkStorage(name: string, properties: NonNullable<StorageBody["properties"]>): void {
  const invalid = (why: string): never => {
    throw new ArmFault(400, "ManagedEnvironmentStorageInvalid", `Invalid Request: storage '${name}': ${why}`);
  };
  if (!storagePattern.test(name) || name.length > 63) {
    invalid("a name has up to 63 lower case alphanumeric characters or '-'");
  }
  const { azureFile, nfsAzureFile } = properties;
  if ((azureFile === undefined) === (nfsAzureFile === undefined)) {
    invalid("exactly one of azureFile and nfsAzureFile is required");
  }
  if (azureFile !== undefined) {
    const { accountName = "", accountKey = "", accountKeyVaultProperties } = azureFile;
    if (accountKeyVaultProperties !== undefined) {
      throw notSimulated("an account's key in Key Vault");
    }
    if (accountName === "" || accountKey === "") {
      invalid("accountName and accountKey are required");
    }
    if (!shareName.test(azureFile.shareName ?? "")) {
      invalid(`'${azureFile.shareName ?? ""}' is no name of a share`);
    }
  } else if (!/^\/[^/]+\/[^/]+$/.test(nfsAzureFile?.shareName ?? "") || (nfsAzureFile?.server ?? "") === "") {
    invalid("server and shareName, as /ACCOUNT/SHARE, are required");
  }
  if ((azureFile ?? nfsAzureFile)?.accessMode === undefined) {
    invalid("accessMode is required");
  }
}
