// What is wrong with the view that is shown: targets below 48 pixels, words of a contrast below 4.5, things wider than their room, buttons without a name.
() => {
  const found = { small: [], faint: [], wide: [], nameless: [], checked: 0 };
  const shown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !element.closest(".back, .hidden-words, .skip");
  const name = (element) => element.id || element.getAttribute("aria-label") || element.textContent.trim().slice(0, 30);
  for (const target of document.querySelectorAll("button, input, select")) {
    if (!shown(target)) continue;
    found.checked += 1;
    const box = target.getBoundingClientRect();
    if (box.width < 47.5 || box.height < 47.5) found.small.push([name(target), Math.round(box.width), Math.round(box.height)]);
    const label = target.getAttribute("aria-label") || target.textContent.trim() || target.labels?.[0]?.textContent.trim();
    if (!label) found.nameless.push(target.outerHTML.slice(0, 80));
  }
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = (colour) => {
    const [red, green, blue] = colour.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    if (!element) return [1, 1, 1];
    const colour = rgba(getComputedStyle(element).backgroundColor);
    return colour[3] === 1 ? colour : over(colour, ground(element.parentElement));
  };
  for (const element of document.querySelectorAll("nav *, main *")) {
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!words || !shown(element) || element.closest(":disabled, option")) continue;
    found.checked += 1;
    const below = ground(element);
    const [a, b] = [light(over(rgba(getComputedStyle(element).color), below)), light(below)].sort((one, two) => two - one);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.faint.push([name(element), contrast.toFixed(2)]);
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth && getComputedStyle(element).overflowX === "visible" && getComputedStyle(element).display !== "inline") {
      found.wide.push([name(element), element.scrollWidth, element.clientWidth]);
    }
    const box = element.getBoundingClientRect();
    if (element.closest("nav") && (box.left < 0 || box.right > innerWidth)) found.wide.push([name(element), box.left, box.right]);
  }
  return found;
}
