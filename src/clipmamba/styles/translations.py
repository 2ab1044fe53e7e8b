"""Names of the known styles in other languages, which work like their English names.

German, French, Spanish, Italian, Portuguese, Dutch, Polish, Russian, Turkish, Arabic, Japanese,
Korean and Chinese (simplified, then traditional where it differs); a name that several languages
share is listed once.
"""

from __future__ import annotations

TRANSLATIONS: dict[str, tuple[str, ...]] = {
    "impressionism": (
        "Impressionismus", "impressionnisme", "impresionismo", "impressionismo", "impressionisme",
        "impresjonizm", "импрессионизм", "izlenimcilik", "empresyonizm", "الانطباعية", "印象派",
        "印象主義", "인상주의", "인상파", "印象主义",
    ),
    "post-impressionism": (
        "Postimpressionismus", "post-impressionnisme", "postimpresionismo", "postimpressionismo",
        "postimpressionisme", "postimpresjonizm", "постимпрессионизм", "ポスト印象派",
        "後期印象派", "후기 인상주의", "후기 인상파", "后印象派", "后印象主义", "後印象派",
    ),
    "pointillism": (
        "Pointillismus", "pointillisme", "puntillismo", "divisionismo", "pontilhismo",
        "puntinismo", "puentylizm", "пуантилизм", "noktacılık", "puantilizm", "点描", "点描画",
        "点描派", "점묘법", "점묘화", "点彩", "点彩派", "點彩派",
    ),
    "expressionism": (
        "Expressionismus", "expressionnisme", "expresionismo", "espressionismo", "expressionismo",
        "expressionisme", "ekspresjonizm", "экспрессионизм", "dışavurumculuk", "ekspresyonizm",
        "التعبيرية", "表現主義", "表現派", "표현주의", "表现主义",
    ),
    "abstract expressionism": (
        "abstrakter Expressionismus", "expressionnisme abstrait", "expresionismo abstracto",
        "espressionismo astratto", "expressionismo abstrato", "abstract expressionisme",
        "абстрактный экспрессионизм", "抽象表現主義", "추상표현주의", "抽象表现主义",
    ),
    "fauvism": (
        "Fauvismus", "fauvisme", "fovismo", "fauvismo", "fowizm", "фовизм", "fovizm",
        "フォーヴィスム", "野獣派", "야수파", "野兽派", "野獸派",
    ),
    "cubism": (
        "Kubismus", "cubisme", "cubismo", "kubisme", "kubizm", "кубизм", "kübizm", "التكعيبية",
        "キュビスム", "キュビズム", "立体派", "입체주의", "입체파", "立体主义", "立體派",
    ),
    "surrealism": (
        "Surrealismus", "surréalisme", "surrealismo", "surrealisme", "surrealizm", "сюрреализм",
        "gerçeküstücülük", "sürrealizm", "السريالية", "シュルレアリスム", "シュールレアリスム",
        "超現実主義", "초현실주의", "超现实主义", "超現實主義",
    ),
    "symbolism": (
        "Symbolismus", "symbolisme", "simbolismo", "symbolizm", "символизм", "sembolizm",
        "الرمزية", "象徴主義", "상징주의", "象征主义", "象徵主義",
    ),
    "romanticism": (
        "Romantik", "romantisme", "romanticismo", "romantismo", "romantiek", "romantyzm",
        "романтизм", "romantizm", "الرومانسية", "ロマン主義", "ロマン派", "낭만주의", "浪漫主义",
        "浪漫主義",
    ),
    "realism": (
        "Realismus", "réalisme", "realismo", "realisme", "realizm", "реализм", "gerçekçilik",
        "الواقعية", "写実主義", "사실주의", "现实主义", "寫實主義",
    ),
    "baroque": (
        "Barock", "barocke Malerei", "barroco", "barocco", "barok", "барокко", "باروك", "الباروك",
        "バロック", "バロック絵画", "바로크", "바로크 회화", "巴洛克", "clair-obscur",
        "claroscuro", "chiaroscuro barocco", "Helldunkel",
    ),
    "rococo": (
        "Rokoko", "rococó", "rococò", "рококо", "ロココ", "로코코", "洛可可", "روكوكو",
    ),
    "renaissance": (
        "Renaissancemalerei", "renacimiento", "rinascimento", "renascimento", "renesans",
        "ренессанс", "возрождение", "rönesans", "عصر النهضة", "ルネサンス", "르네상스",
        "文艺复兴", "文藝復興",
    ),
    "dutch golden age": (
        "goldenes Zeitalter", "siècle d'or néerlandais", "siglo de oro neerlandés",
        "secolo d'oro olandese", "gouden eeuw", "オランダ黄金時代", "네덜란드 황금시대",
        "荷兰黄金时代",
    ),
    "futurism": (
        "Futurismus", "futurisme", "futurismo", "futuryzm", "футуризм", "fütürizm", "المستقبلية",
        "未来派", "미래주의", "未来主义", "未來主義",
    ),
    "suprematism": (
        "Suprematismus", "suprématisme", "suprematismo", "suprematisme", "suprematyzm",
        "супрематизм", "süprematizm", "シュプレマティスム", "절대주의", "至上主义",
    ),
    "abstract art": (
        "abstrakte Kunst", "art abstrait", "arte abstracto", "arte astratta", "arte abstrata",
        "abstracte kunst", "sztuka abstrakcyjna", "абстрактное искусство", "абстракция",
        "soyut sanat", "الفن التجريدي", "抽象画", "抽象芸術", "추상미술", "추상화", "抽象艺术",
        "抽象藝術",
    ),
    "op art": (
        "オプ・アート", "옵아트", "欧普艺术", "оп-арт", "arte óptico", "arte optica",
    ),
    "pop art": (
        "Pop-Art-Malerei", "arte pop", "поп-арт", "فن البوب", "ポップアート", "팝아트",
        "波普艺术", "普普藝術",
    ),
    "naive art": (
        "naive Kunst", "art naïf", "arte naíf", "arte naif", "naïeve kunst", "наивное искусство",
        "naif sanat", "素朴派", "나이브 아트", "稚拙艺术", "素人畫", "Volkskunst", "arte popular",
        "民间艺术",
    ),
    "byzantine icon": (
        "Ikone", "icône byzantine", "icono bizantino", "icona bizantina", "ícone bizantino",
        "ikona", "икона", "bizans ikonası", "イコン", "이콘", "圣像画",
    ),
    "fresco": (
        "Fresko", "Wandmalerei", "fresque", "affresco", "afresco", "fresk", "фреска",
        "duvar resmi", "フレスコ画", "壁画", "프레스코", "프레스코화", "湿壁画", "لوحة جدارية",
    ),
    "oil painting": (
        "Ölgemälde", "Ölmalerei", "Öl auf Leinwand", "peinture à l'huile", "huile sur toile",
        "pintura al óleo", "óleo sobre lienzo", "pittura a olio", "olio su tela",
        "pintura a óleo", "óleo sobre tela", "olieverf", "olieverfschilderij", "obraz olejny",
        "malarstwo olejne", "масляная живопись", "картина маслом", "холст, масло", "yağlı boya",
        "لوحة زيتية", "油絵", "油彩", "油彩画", "유화", "油画", "油畫",
    ),
    "watercolor": (
        "Aquarell", "Aquarellmalerei", "Wasserfarben", "peinture à l'aquarelle", "acuarela",
        "acquerello", "acquarello", "aquarela", "aguarela", "aquarel", "waterverf", "akwarela",
        "акварель", "suluboya", "ألوان مائية", "الألوان المائية", "水彩", "水彩画", "透明水彩",
        "수채화", "水彩畫",
    ),
    "gouache": (
        "Gouachemalerei", "guazzo", "guache", "gwasz", "гуашь", "guaş", "غواش", "ガッシュ",
        "과슈", "水粉画", "水粉",
    ),
    "acrylic painting": (
        "Acrylmalerei", "Acrylbild", "peinture acrylique", "pintura acrílica", "pittura acrilica",
        "acrylverf", "malarstwo akrylowe", "акриловая живопись", "akrilik boya", "アクリル画",
        "아크릴화", "丙烯画",
    ),
    "palette knife painting": (
        "Spachteltechnik", "peinture au couteau", "pintura con espátula", "pittura a spatola",
        "импасто", "мастихин", "厚塗り", "임파스토", "厚涂",
    ),
    "sumi-e": (
        "Tuschmalerei", "Tuschemalerei", "lavis", "lavis d'encre", "pintura a tinta china",
        "суми-э", "китайская живопись тушью", "水墨画", "墨絵", "수묵화", "수묵", "水墨",
        "水墨畫", "国画",
    ),
    "ukiyo-e": (
        "japanischer Holzschnitt", "japanischer Farbholzschnitt", "estampe japonaise",
        "estampa japonesa", "stampa giapponese", "xilogravura japonesa", "japanse prent",
        "japanse houtsnede", "japoński drzeworyt", "укиё-э", "японская гравюра", "japon baskısı",
        "أوكييو-إه", "浮世絵", "浮世絵風", "우키요에", "浮世绘", "浮世繪",
    ),
    "woodcut": (
        "Holzschnitt", "Holzstich", "gravure sur bois", "xylographie", "xilografía",
        "grabado en madera", "xilografia", "xilogravura", "houtsnede", "drzeworyt", "ксилография",
        "гравюра на дереве", "ahşap baskı", "木版画", "木版", "목판화", "木刻", "木刻版画",
    ),
    "linocut": (
        "Linolschnitt", "linogravure", "linograbado", "linoleografia", "linogravura", "linosnede",
        "linoryt", "линогравюра", "linol baskı", "リノカット", "リノリウム版画", "리노컷",
        "麻胶版画",
    ),
    "etching": (
        "Radierung", "eau-forte", "aguafuerte", "acquaforte", "água-forte", "ets", "akwaforta",
        "офорт", "エッチング", "에칭", "蚀刻", "蚀刻版画",
    ),
    "engraving": (
        "Kupferstich", "Stahlstich", "gravure", "gravure sur cuivre", "grabado", "incisione",
        "gravura", "kopergravure", "miedzioryt", "rycina", "гравюра", "gravür", "銅版画",
        "동판화", "铜版画", "銅版畫",
    ),
    "lithograph": (
        "Lithografie", "Lithographie", "Steindruck", "litografía", "litografia", "litho",
        "литография", "litografi", "リトグラフ", "石版画", "석판화",
    ),
    "screen print": (
        "Siebdruck", "sérigraphie", "serigrafía", "serigrafia", "zeefdruk", "sitodruk",
        "шелкография", "serigrafi", "シルクスクリーン", "실크스크린", "丝网版画", "絲網印刷",
    ),
    "halftone": (
        "Halbtonraster", "Rasterdruck", "trame de demi-teintes", "полутона", "網点",
        "ハーフトーン", "망점", "半色调",
    ),
    "risograph": (
        "Risografie", "risographie", "risografía", "risografia", "ризография", "リソグラフ",
        "리소그래프",
    ),
    "pencil sketch": (
        "Bleistiftzeichnung", "Bleistiftskizze", "dessin au crayon", "croquis au crayon",
        "dibujo a lápiz", "boceto a lápiz", "disegno a matita", "schizzo a matita",
        "desenho a lápis", "potloodtekening", "potloodschets", "rysunek ołówkiem",
        "szkic ołówkiem", "рисунок карандашом", "карандашный рисунок", "karakalem",
        "karakalem çizim", "رسم بالقلم الرصاص", "鉛筆画", "鉛筆スケッチ", "연필화", "연필 스케치",
        "연필 그림", "铅笔画", "铅笔素描", "素描", "鉛筆畫",
    ),
    "colored pencil": (
        "Buntstiftzeichnung", "Buntstift", "Wachsmalstifte", "crayon de couleur",
        "crayons de couleur", "lápices de colores", "lápiz de color", "matite colorate",
        "lápis de cor", "kleurpotlood", "kredki", "цветные карандаши", "kuru boya", "色鉛筆",
        "色鉛筆画", "クレヨン", "クレヨン画", "색연필", "색연필화", "크레용", "彩铅", "彩色铅笔",
        "蜡笔画", "蠟筆畫",
    ),
    "charcoal drawing": (
        "Kohlezeichnung", "fusain", "dessin au fusain", "dibujo al carboncillo", "carboncillo",
        "disegno a carboncino", "carboncino", "desenho a carvão", "houtskool",
        "houtskooltekening", "rysunek węglem", "рисунок углём", "рисунок углем", "木炭画",
        "木炭デッサン", "목탄화", "炭笔画", "炭筆畫",
    ),
    "pastel": (
        "Pastellzeichnung", "Pastellmalerei", "Pastell", "pastel sec", "pintura al pastel",
        "pastello", "pastelli", "pasteltekening", "pastele", "пастель", "パステル画", "パステル",
        "파스텔", "파스텔화", "粉彩画", "粉彩", "色粉画", "الباستيل",
    ),
    "ink drawing": (
        "Tuschezeichnung", "Federzeichnung", "dessin à l'encre", "dessin à la plume",
        "dibujo a tinta", "dibujo a pluma", "disegno a inchiostro", "disegno a china",
        "desenho a nanquim", "inkttekening", "pentekening", "rysunek tuszem", "рисунок тушью",
        "рисунок пером", "mürekkep çizimi", "رسم بالحبر", "ペン画", "펜화", "钢笔画", "鋼筆畫",
    ),
    "line art": (
        "Strichzeichnung", "Linienzeichnung", "dessin au trait", "arte lineal", "dibujo lineal",
        "disegno al tratto", "arte de linha", "lijntekening", "контурный рисунок", "çizgi sanatı",
        "線画", "라인 아트", "선화", "线稿", "线描", "線稿",
    ),
    "comic book": (
        "Comicheft", "Comicstil", "historieta", "cómic", "fumetto", "fumetti", "quadrinhos",
        "banda desenhada", "stripverhaal", "komiks", "комикс", "çizgi roman", "قصة مصورة",
        "アメコミ", "アメリカンコミック", "미국 만화", "美漫", "美式漫画", "漫画书",
    ),
    "cartoon": (
        "Zeichentrick", "Zeichentrickfilm", "dessin animé", "dibujos animados",
        "caricatura animada", "cartone animato", "cartoni animati", "desenho animado",
        "tekenfilm", "kreskówka", "мультфильм", "мультик", "çizgi film", "رسوم متحركة", "كرتون",
        "カートゥーン", "카툰", "卡通", "动画片",
    ),
    "manga": (
        "манга", "مانغا", "漫画", "マンガ", "まんが", "만화", "漫畫",
    ),
    "anime": (
        "аниме", "أنمي", "アニメ", "アニメ風", "アニメ調", "애니메이션", "애니메",
        "일본 애니메이션", "动漫", "日本动漫", "動漫", "日系动漫", "Animestil",
    ),
    "children's book illustration": (
        "Kinderbuchillustration", "Bilderbuch", "illustration jeunesse",
        "illustration pour enfants", "ilustración infantil", "illustrazione per bambini",
        "ilustração infantil", "kinderboekillustratie", "ilustracja dla dzieci",
        "детская иллюстрация", "çocuk kitabı illüstrasyonu", "絵本", "絵本風", "동화책",
        "동화책 삽화", "그림책", "绘本", "儿童插画", "繪本",
    ),
    "botanical illustration": (
        "botanische Illustration", "botanische Zeichnung", "illustration botanique",
        "planche botanique", "ilustración botánica", "illustrazione botanica", "tavola botanica",
        "ilustração botânica", "botanische tekening", "ботаническая иллюстрация",
        "botanik illüstrasyon", "植物画", "ボタニカルアート", "식물화", "보태니컬 아트",
        "植物插画", "植物图鉴",
    ),
    "mosaic": (
        "Mosaik", "mosaïque", "mosaico", "mozaïek", "mozaika", "мозаика", "mozaik", "فسيفساء",
        "モザイク", "モザイク画", "모자이크", "马赛克", "镶嵌画", "馬賽克",
    ),
    "stained glass": (
        "Glasmalerei", "Buntglas", "Buntglasfenster", "Kirchenfenster", "vitrail", "vitraux",
        "vidriera", "vitral", "vetrata", "vetrata artistica", "glas-in-lood", "witraż", "витраж",
        "vitray", "زجاج معشق", "الزجاج الملون", "ステンドグラス", "스테인드글라스",
        "스테인드 글라스", "彩色玻璃", "彩绘玻璃", "彩繪玻璃",
    ),
    "embroidery": (
        "Stickerei", "Kreuzstich", "broderie", "point de croix", "bordado", "punto de cruz",
        "ricamo", "punto croce", "ponto cruz", "borduurwerk", "kruissteek", "haft",
        "haft krzyżykowy", "вышивка", "вышивка крестом", "nakış", "تطريز", "刺繍",
        "クロスステッチ", "자수", "십자수", "刺绣", "十字绣", "刺繡",
    ),
    "tapestry": (
        "Wandteppich", "tapisserie", "tapiz", "arazzo", "tapeçaria", "wandtapijt", "gobelen",
        "гобелен", "duvar halısı", "タペストリー", "태피스트리", "挂毯", "掛毯",
    ),
    "paper cut": (
        "Scherenschnitt", "papier découpé", "papel recortado", "carta ritagliata",
        "papel cortado", "papierknipkunst", "wycinanka", "вырезка из бумаги", "kağıt oyma",
        "切り絵", "切り紙", "종이 공예", "剪纸", "剪紙",
    ),
    "collage": (
        "Collagetechnik", "collage de papier", "colagem", "kolaż", "коллаж", "kolaj", "كولاج",
        "コラージュ", "콜라주", "拼贴画", "拼貼",
    ),
    "graffiti": (
        "Straßenkunst", "art urbain", "arte urbano", "arte callejero", "arte di strada",
        "arte de rua", "straatkunst", "граффити", "стрит-арт", "grafiti", "sokak sanatı",
        "جرافيتي", "グラフィティ", "그래피티", "涂鸦", "街头艺术", "塗鴉",
    ),
    "art nouveau": (
        "Jugendstilmalerei", "modernismo catalán", "stile liberty", "arte nova", "secesja",
        "модерн", "ар-нуво", "الفن الجديد", "アール・ヌーヴォー", "アールヌーボー", "아르누보",
        "新艺术运动", "新艺术风格", "新藝術",
    ),
    "art nouveau poster": (
        "Jugendstilplakat", "affiche art nouveau", "cartel modernista", "manifesto liberty",
        "アール・ヌーヴォーのポスター", "아르누보 포스터",
    ),
    "art deco": (
        "Art-déco-Plakat", "ар-деко", "آرت ديكو", "アール・デコ", "アールデコ", "아르데코",
        "装饰艺术风格", "裝飾藝術",
    ),
    "bauhaus": (
        "Bauhausstil", "баухаус", "باوهاوس", "バウハウス", "바우하우스", "包豪斯",
    ),
    "constructivism": (
        "Konstruktivismus", "constructivisme", "constructivismo", "costruttivismo",
        "construtivismo", "konstruktywizm", "конструктивизм", "советский плакат", "構成主義",
        "구성주의", "构成主义", "構成主義海報",
    ),
    "psychedelic art": (
        "psychedelische Kunst", "art psychédélique", "arte psicodélico", "arte psichedelica",
        "arte psicodélica", "психоделическое искусство", "психоделика", "サイケデリック",
        "사이키델릭", "迷幻艺术", "迷幻",
    ),
    "flat design": (
        "flaches Design", "Vektorgrafik", "art vectoriel", "diseño plano", "arte vectorial",
        "grafica vettoriale", "arte vetorial", "векторная графика", "плоский дизайн",
        "フラットデザイン", "플랫 디자인", "扁平化", "扁平插画", "矢量图",
    ),
    "blueprint": (
        "Blaupause", "technische Zeichnung", "plan d'architecte", "plano técnico", "cianografica",
        "planta técnica", "blauwdruk", "чертёж", "чертеж", "ozalit", "青写真", "設計図", "청사진",
        "蓝图", "藍圖",
    ),
    "pixel art": (
        "Pixelkunst", "Pixelgrafik", "art du pixel", "arte de píxeles", "arte pixel",
        "arte em pixel", "пиксель-арт", "пиксельная графика", "piksel sanatı", "فن البكسل",
        "ドット絵", "ピクセルアート", "픽셀 아트", "도트 그림", "像素画", "像素艺术", "像素風",
    ),
    "low poly": (
        "Polygonkunst", "лоу поли", "низкополигональный", "ローポリ", "ローポリゴン", "로우폴리",
        "低多边形", "低多邊形",
    ),
    "digital painting": (
        "digitale Malerei", "peinture numérique", "pintura digital", "pittura digitale",
        "digitale schilderkunst", "цифровая живопись", "dijital resim", "デジタル絵画",
        "デジタルイラスト", "디지털 페인팅", "数字绘画", "數位繪畫",
    ),
    "concept art": (
        "Konzeptkunst", "Konzeptzeichnung", "концепт-арт", "コンセプトアート", "컨셉 아트",
        "概念艺术", "概念设计",
    ),
    "cyberpunk": (
        "киберпанк", "سايبربانك", "サイバーパンク", "사이버펑크", "赛博朋克", "賽博龐克",
    ),
    "vaporwave": (
        "вейпорвейв", "ヴェイパーウェイヴ", "베이퍼웨이브", "蒸汽波",
    ),
    "steampunk": (
        "стимпанк", "スチームパンク", "스팀펑크", "蒸汽朋克",
    ),
    "sepia photograph": (
        "Sepiafoto", "altes Foto", "photo sépia", "vieille photo", "foto sepia",
        "fotografía antigua", "foto antigua", "foto seppia", "vecchia fotografia", "foto sépia",
        "foto antiga", "oude foto", "stara fotografia", "сепия", "старая фотография",
        "eski fotoğraf", "صورة قديمة", "セピア", "セピア写真", "古い写真", "세피아",
        "오래된 사진", "老照片", "复古照片",
    ),
    "cyanotype": (
        "Cyanotypie", "Blaudruckfoto", "cianotipia", "cianotipo", "cyjanotypia", "цианотипия",
        "siyanotip", "サイアノタイプ", "시아노타입", "蓝晒",
    ),
    "black and white photograph": (
        "Schwarzweiß", "Schwarz-Weiß", "Schwarzweißfoto", "noir et blanc",
        "photo en noir et blanc", "blanco y negro", "bianco e nero", "preto e branco",
        "zwart-wit", "zwart-witfoto", "czarno-białe", "czarno-biała fotografia", "чёрно-белое",
        "черно-белое фото", "siyah beyaz", "أبيض وأسود", "白黒", "白黒写真", "モノクロ", "흑백",
        "흑백 사진", "黑白", "黑白照片",
    ),
}  # fmt: skip
"""Translations by the style's English name."""
