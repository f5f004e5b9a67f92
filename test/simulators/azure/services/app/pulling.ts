/** How Container Apps gets at images: checked when a job is written, pulled when it is started. */
import {
  type Image,
  type ImageStore,
  PullFailed,
  qualifiedReference,
  type RegistryAccess,
} from "../../../common/machine/images.ts";
import { isSame } from "../../context.ts";
import { ArmFault } from "../../wire/fault.ts";
import type { JobBody } from "./bodies.ts";

/** Registries that let identities of the directory in. */
export interface IdentityRegistries {
  /** Credentials of a managed identity. @throws PullFailed */
  credentialsFor(identity: string, server: string): { readonly username: string; readonly password: string };
}

/** An image could not be had; the message is the registry's. */
export class ImageRefused extends Error {}

/** Pulls and checks images with the registries and secrets of a job. */
export class Puller {
  readonly #images: ImageStore;
  readonly #registries: IdentityRegistries;

  constructor(images: ImageStore, registries: IdentityRegistries) {
    this.#images = images;
    this.#registries = registries;
  }

  /** Pulls an image. @throws ImageRefused */
  async pull(image: string, job: JobBody): Promise<Image> {
    const reference = qualifiedReference(image);
    try {
      return await this.#images.pull(reference, this.#access(reference, job));
    } catch (error) {
      throw refused(error);
    }
  }

  /** Checks that all images of a job are there for it. @throws ArmFault */
  async check(job: JobBody): Promise<void> {
    const { containers = [], initContainers = [] } = job.properties?.template ?? {};
    await Promise.all(
      [...initContainers, ...containers].map(async ({ name = "", image = "" }) => {
        const reference = qualifiedReference(image);
        try {
          await this.#images.find(reference, this.#access(reference, job));
        } catch (error) {
          const message = `The following field(s) are either invalid or missing. Field 'template.containers.${name}.image' is invalid with details: 'Invalid value: "${image}": GET https:: ${refused(error).message}';.`;
          throw new ArmFault(400, "InvalidParameterValueInContainerTemplate", message);
        }
      }),
    );
  }

  #access(reference: string, { properties }: JobBody): RegistryAccess {
    const host = reference.slice(0, reference.indexOf("/"));
    const plainHttp = /^(127\.\d+\.\d+\.\d+|localhost)(:\d+)?$/.test(host);
    const { registries = [], secrets = [] } = properties?.configuration ?? {};
    const registry = registries.find(({ server = "" }) => isSame(server, host));
    if (registry === undefined) {
      return { plainHttp };
    }
    if (registry.identity !== undefined && registry.identity !== "") {
      return { plainHttp, credentials: this.#registries.credentialsFor(registry.identity, host) };
    }
    const password = secrets.find(({ name }) => name === registry.passwordSecretRef)?.value ?? "";
    return { plainHttp, credentials: { username: registry.username ?? "", password } };
  }
}

function refused(error: unknown): ImageRefused {
  if (error instanceof PullFailed) {
    const code = error.reason === "missing" ? "MANIFEST_UNKNOWN" : "UNAUTHORIZED";
    return new ImageRefused(`${code}: ${error.message}`, { cause: error });
  }
  throw error;
}
