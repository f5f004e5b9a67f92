/**
 * The driver owns unpacked layers and deletes them on request. A layer stays while an image or a container uses it, or
 * while current work holds it.
 *
 * INVARIANT: layers are prepared only while held, and after every deletion in progress has ended, so that no deletion
 * hits an image that has just been prepared.
 */
import type { LayerUnpacking } from "../driver/images.ts";

/** Selects the unused ones of some layers (diff IDs). */
export type UnusedLayers = (diffIds: readonly string[]) => readonly string[];

/** Decides when the driver may delete a layer. */
export class LayerRetention {
  readonly #unpacking: LayerUnpacking;
  readonly #unused: UnusedLayers;
  readonly #holds = new Map<string, number>();
  #forgetting: Promise<void> = Promise.resolve();

  constructor(unpacking: LayerUnpacking, unused: UnusedLayers) {
    this.#unpacking = unpacking;
    this.#unused = unused;
  }

  /** Holds layers until disposed, and waits until they can safely be prepared. */
  async hold(diffIds: readonly string[]): Promise<Disposable> {
    const held = [...new Set(diffIds)];
    for (const diffId of held) {
      this.#holds.set(diffId, (this.#holds.get(diffId) ?? 0) + 1);
    }
    await this.#forgetting;
    return { [Symbol.dispose]: () => this.#unhold(held) };
  }

  /**
   * Makes the driver delete the unused ones of some layers.
   *
   * @throws the driver's error; the layers then remain
   */
  forgetUnused(diffIds: readonly string[]): Promise<void> {
    const forgetting = this.#forgetting.then(async () => {
      if (this.#unpacking.kind === "platform") {
        return;
      }
      const unused = this.#unused(diffIds).filter((diffId) => !this.#holds.has(diffId));
      if (unused.length > 0) {
        await this.#unpacking.forget(unused);
      }
    });
    this.#forgetting = forgetting.catch(() => undefined);
    return forgetting;
  }

  #unhold(diffIds: readonly string[]): void {
    for (const diffId of diffIds) {
      const holds = this.#holds.get(diffId) ?? 0;
      if (holds > 1) {
        this.#holds.set(diffId, holds - 1);
      } else {
        this.#holds.delete(diffId);
      }
    }
  }
}
