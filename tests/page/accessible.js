// What is wrong with the page for those who cannot see it well, a line each: a part of
// WCAG 2.1 AA that a program can judge.
const wrong = [];
const check = (holds, what) => { if (!holds) wrong.push(what); };
check(document.documentElement.lang === "en", "no language");
check(document.title.trim() !== "", "no title");
check(document.querySelectorAll("main").length === 1, "not one main");
check(document.querySelectorAll("h1").length === 1, "not one h1");
let level = 0;
for (const heading of document.querySelectorAll("h1,h2,h3,h4,h5,h6")) {
  const own = Number(heading.tagName[1]);
  check(own <= level + 1, `${heading.tagName} "${heading.textContent}" after h${level}`);
  level = own;
}
const ids = [...document.querySelectorAll("[id]")].map((it) => it.id);
check(new Set(ids).size === ids.length, `an id comes twice: ${ids}`);
for (const svg of document.querySelectorAll("svg")) {
  const label = svg.getAttribute("role") === "img" && svg.getAttribute("aria-label");
  check(label || svg.getAttribute("aria-hidden") === "true", `no label: ${svg.outerHTML.slice(0, 60)}`);
}
for (const link of document.querySelectorAll("a")) {
  check(link.textContent.trim() !== "", `a link without text: ${link.href}`);
}
for (const head of document.querySelectorAll("th")) {
  check(head.scope !== "", `a heading without scope: ${head.textContent}`);
}
check(document.documentElement.scrollWidth <= innerWidth,
  `wider than the window: ${document.documentElement.scrollWidth} > ${innerWidth}`);

const parse = (color) => {
  const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
  return { r, g, b, a };
};
const luminance = ({ r, g, b }) => {
  const [x, y, z] = [r, g, b].map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.a > 0) return color;
  }
  return { r: 255, g: 255, b: 255 };
};
let texts = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const element = walker.currentNode.parentElement;
  if (!text || ["STYLE", "SCRIPT"].includes(element.tagName)) continue;
  const style = getComputedStyle(element);
  const [one, two] = [luminance(parse(style.color)), luminance(ground(element))];
  const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  check(contrast >= (large ? 3 : 4.5), `contrast ${contrast.toFixed(2)}: "${text}"`);
  texts += 1;
}
check(texts > 20, `only ${texts} texts`);
return wrong;
