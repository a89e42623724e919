// Small drawings to try things with, made here so that the page needs no picture files.

function drawing(width, height, paper, draw) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.fillStyle = paper;
  pen.fillRect(0, 0, width, height);
  draw(pen);
  return canvas.toDataURL("image/png");
}

function word(pen, text, x, y, size) {
  pen.fillStyle = "#1a1a1a";
  pen.font = `600 ${size}px Georgia, "DejaVu Serif", serif`;
  pen.textBaseline = "middle";
  pen.fillText(text, x, y);
}

export const EXAMPLES = [
  { question: "What does it say?", url: () => drawing(168, 84, "#f5f4ef", (pen) => word(pen, "Coffee", 22, 44, 38)) },
  {
    question: "What is this?",
    url: () => drawing(112, 112, "#f0f0f0", (pen) => {
      pen.fillStyle = "#1d4ed8";
      pen.fillRect(30, 26, 52, 52);
    }),
  },
  {
    question: "How many shapes are there?",
    url: () => drawing(168, 112, "#fdfdfb", (pen) => {
      for (const [x, y, colour] of [[38, 40, "#dc2626"], [92, 70, "#16a34a"], [136, 38, "#f59e0b"]]) {
        pen.fillStyle = colour;
        pen.beginPath();
        pen.arc(x, y, 19, 0, 7);
        pen.fill();
      }
    }),
  },
];
