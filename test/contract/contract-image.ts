/** The image of the driver contract: busybox in one layer, made runnable by the driver under test. */
import type { Driver } from "../../src/backends/driver/driver.ts";
import { createImages, type Images } from "../../src/backends/images/images.ts";
import type { State } from "../../src/backends/state/state.ts";
import { systemClock } from "../../src/common/clock.ts";
import type { Logger } from "../../src/common/logger.ts";
import type { ImageRecord } from "../../src/gen/sockerless/state/v1/state_pb.ts";
import { testRegistries } from "../support/image-store.ts";
import { busyboxImage } from "../support/images.ts";

/** How registries are spoken to. */
export const contractRegistry = { ...testRegistries, silenceMs: 10_000 };
const name = "contract";
const patienceMs = 60_000;

/** The driver and the state that the image is made with. */
export interface ContractImageOptions {
  readonly driver: Driver;
  readonly state: State;
  readonly stateDirectory: string;
  readonly logger: Logger;
  /** The image of a registry that the driver pulls from itself, in its place. */
  readonly reference?: string | undefined;
}

/** Makes the image; the images are to be closed. */
export async function makeContractImage({
  driver,
  state,
  stateDirectory,
  logger,
  reference,
}: ContractImageOptions): Promise<{ readonly images: Images; readonly image: ImageRecord }> {
  const images = await createImages({
    stateDirectory,
    state,
    preparer: driver.images,
    clock: systemClock,
    logger,
    storageDriver: driver.name,
    registry: contractRegistry,
  });
  const signal = AbortSignal.timeout(patienceMs);
  if (reference === undefined) {
    await images.imports.fromStream({
      reference: name,
      comment: "",
      changes: [],
      platform: undefined,
      archive: firstLayer(),
      signal,
    });
  } else {
    await images.pulls.pull({ reference, platform: undefined, auth: undefined, report: () => {}, signal });
  }
  return { images, image: await runnable(images, reference ?? name) };
}

async function runnable({ containers }: Images, reference: string): Promise<ImageRecord> {
  const { record } = await containers.resolve(reference);
  await containers.makeRunnable(record, AbortSignal.timeout(patienceMs));
  return (await containers.resolve(reference)).record;
}

async function* firstLayer(): AsyncGenerator<Uint8Array> {
  const { layers } = await busyboxImage();
  yield* layers.slice(0, 1);
}
