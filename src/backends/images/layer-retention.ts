/**
 * Unpacked layers belong to the driver, which forgets what it is told to forget. A layer stays while an image or a
 * container stands on it, or while work under way holds it.
 *
 * INVARIANT: layers are prepared only while held and after every forgetting that was under way has ended, so that none
 * is taken away under the feet of the image that has just been made runnable.
 */
import type { LayerUnpacking } from "../driver/images.ts";

/** Answers which of these layers (diff IDs) nothing stands on. */
export type UnusedLayers = (diffIds: readonly string[]) => readonly string[];

/** Decides when the driver may forget a layer. */
export class LayerRetention {
  readonly #unpacking: LayerUnpacking;
  readonly #unused: UnusedLayers;
  readonly #holds = new Map<string, number>();
  #forgetting: Promise<void> = Promise.resolve();

  constructor(unpacking: LayerUnpacking, unused: UnusedLayers) {
    this.#unpacking = unpacking;
    this.#unused = unused;
  }

  /** Holds layers until disposed of, and waits until they can safely be prepared. */
  async hold(diffIds: readonly string[]): Promise<Disposable> {
    const held = [...new Set(diffIds)];
    for (const diffId of held) {
      this.#holds.set(diffId, (this.#holds.get(diffId) ?? 0) + 1);
    }
    await this.#forgetting;
    return { [Symbol.dispose]: () => this.#unhold(held) };
  }

  /**
   * Has the driver forget those of these layers that nothing needs.
   *
   * @throws what the driver throws; the layers are then left behind
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
