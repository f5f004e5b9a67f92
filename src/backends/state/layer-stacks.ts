/** Stacks of layers that images have in common, found without hashing. */

/** A layer together with all below it: equal chain IDs (OCI image specification, "Layer ChainID") are the same object. */
export interface LayerStack {
  /** Number of images that have it. */
  readonly images: number;
}

/** A stack, and those with one layer more, by the diff ID of that layer. */
interface Stack {
  images: number;
  readonly above: Map<string, Stack>;
}

/** The stacks of all images. Part of their table, and changed together with it. */
export class LayerStacks {
  readonly #empty: Stack = { images: 0, above: new Map() };

  /** The stacks that an image's layers top, bottom first, as far as there are any. */
  of(diffIds: readonly string[]): readonly LayerStack[] {
    const stacks: Stack[] = [];
    let stack = this.#empty;
    for (const diffId of diffIds) {
      const next = stack.above.get(diffId);
      if (next === undefined) {
        break;
      }
      stacks.push(next);
      stack = next;
    }
    return stacks;
  }

  /** Replaces an image's layers; undefined before an insertion, and after a deletion. */
  replace(before: readonly string[] | undefined, after: readonly string[] | undefined): void {
    if (before !== after) {
      this.#add(after ?? []);
      this.#remove(before ?? []);
    }
  }

  #add(diffIds: readonly string[]): void {
    let stack = this.#empty;
    for (const diffId of diffIds) {
      const next = stack.above.get(diffId) ?? { images: 0, above: new Map() };
      stack.above.set(diffId, next);
      next.images += 1;
      stack = next;
    }
  }

  #remove(diffIds: readonly string[]): void {
    let stack = this.#empty;
    for (const diffId of diffIds) {
      const next = stack.above.get(diffId);
      if (next === undefined) {
        return;
      }
      next.images -= 1;
      if (next.images === 0) {
        stack.above.delete(diffId); // With all above it, which no other image has either.
      }
      stack = next;
    }
  }
}
