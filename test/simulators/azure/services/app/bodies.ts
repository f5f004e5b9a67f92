/** Bodies of Microsoft.App's requests, after their shapes have been checked. */

export interface EnvironmentVariable {
  readonly name?: string;
  readonly value?: string;
  readonly secretRef?: string;
}

export interface VolumeMount {
  readonly volumeName?: string;
  readonly mountPath?: string;
  readonly subPath?: string;
}

export interface ContainerBody {
  readonly name?: string;
  readonly image?: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly EnvironmentVariable[];
  readonly resources?: { readonly cpu?: number; readonly memory?: string };
  readonly volumeMounts?: readonly VolumeMount[];
  readonly probes?: readonly object[];
}

export interface VolumeBody {
  readonly name?: string;
  readonly storageType?: "AzureFile" | "EmptyDir" | "Secret" | "NfsAzureFile";
  readonly storageName?: string;
  readonly mountOptions?: string;
  readonly secrets?: readonly { readonly secretRef?: string; readonly path?: string }[];
}

export interface TemplateBody {
  readonly containers?: readonly ContainerBody[];
  readonly initContainers?: readonly ContainerBody[];
  readonly volumes?: readonly VolumeBody[];
}

export interface SecretBody {
  readonly name?: string;
  readonly value?: string;
  readonly identity?: string;
  readonly keyVaultUrl?: string;
}

export interface RegistryBody {
  readonly server?: string;
  readonly username?: string;
  readonly passwordSecretRef?: string;
  readonly identity?: string;
}

export interface ConfigurationBody {
  readonly triggerType?: "Manual" | "Schedule" | "Event";
  readonly replicaTimeout?: number;
  readonly replicaRetryLimit?: number;
  readonly manualTriggerConfig?: {
    readonly replicaCompletionCount?: number;
    readonly parallelism?: number;
  };
  readonly secrets?: readonly SecretBody[];
  readonly registries?: readonly RegistryBody[];
  readonly identitySettings?: readonly { readonly identity?: string; readonly lifecycle?: string }[];
}

export interface JobBody {
  readonly location?: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly identity?: {
    readonly type?: string;
    readonly userAssignedIdentities?: Readonly<Record<string, object>>;
  };
  readonly properties?: {
    readonly environmentId?: string;
    readonly workloadProfileName?: string;
    readonly configuration?: ConfigurationBody;
    readonly template?: TemplateBody;
  };
}

export interface StorageBody {
  readonly properties?: {
    readonly azureFile?: {
      readonly accountName?: string;
      readonly accountKey?: string;
      readonly accountKeyVaultProperties?: object;
      readonly accessMode?: "ReadOnly" | "ReadWrite";
      readonly shareName?: string;
    };
    readonly nfsAzureFile?: {
      readonly server?: string;
      readonly accessMode?: "ReadOnly" | "ReadWrite";
      readonly shareName?: string;
    };
  };
}
