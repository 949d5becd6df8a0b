// Film strips: a few frames of a draft or a film side by side in one small picture, for the blocks of the timeline.

export const FRAMES = 6, SIDE = 96;

/** The strip of `draw(context, slot)` for each of its frames, as a data URL. */
async function strip(draw) {
  const canvas = document.createElement("canvas");
  canvas.width = FRAMES * SIDE;
  canvas.height = SIDE;
  const context = canvas.getContext("2d");
  for (let slot = 0; slot < FRAMES; slot++) await draw(context, slot);
  return canvas.toDataURL("image/jpeg", 0.82);
}

/** Draws the middle square of a picture into a slot. */
function put(context, slot, source, width, height) {
  const part = Math.min(width, height);
  context.drawImage(source, (width - part) / 2, (height - part) / 2, part, part, slot * SIDE, 0, SIDE, SIDE);
}

/** The strip of an animated picture. A browser that cannot decode its frames repeats the first. */
export async function stripOfDraft(url) {
  const blob = await (await fetch(url)).blob();
  if (window.ImageDecoder) {
    const decoder = new ImageDecoder({ data: await blob.arrayBuffer(), type: blob.type });
    await decoder.tracks.ready;
    await decoder.completed;
    const count = decoder.tracks.selectedTrack.frameCount;
    return strip(async (context, slot) => {
      const { image } = await decoder.decode({ frameIndex: Math.min(count - 1, Math.floor((slot * count) / FRAMES)) });
      put(context, slot, image, image.displayWidth, image.displayHeight);
      image.close();
    });
  }
  const picture = await createImageBitmap(blob);
  return strip((context, slot) => put(context, slot, picture, picture.width, picture.height));
}

/** The strips of the parts of a film: `parts` are pairs of the seconds at which each begins and ends. */
export async function stripsOfFilm(url, parts) {
  const film = document.createElement("video");
  Object.assign(film, { muted: true, preload: "auto", src: url });
  await event(film, "loadeddata");
  const found = [];
  for (const [begin, end] of parts) {
    found.push(await strip(async (context, slot) => {
      film.currentTime = Math.min(film.duration - 0.01, begin + ((slot + 0.5) * (end - begin)) / FRAMES);
      await event(film, "seeked");
      put(context, slot, film, film.videoWidth, film.videoHeight);
    }));
  }
  film.removeAttribute("src");
  return found;
}

function event(film, name) {
  return new Promise((done, failed) => {
    film.addEventListener(name, done, { once: true });
    film.addEventListener("error", () => failed(new Error("this browser cannot play this format")), { once: true });
  });
}
