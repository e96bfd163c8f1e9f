"""How random a text is, in bits: what would have to be guessed of it once its words are known.

Entropy alone takes every identifier for a secret. Here runs of letters that read like a word of a European
language, counted sequences and separators weigh next to nothing; what is left is what somebody drew by lot.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from typing import Final

# The 1,600 commonest groups of three letters in the words and identifiers of large public projects, one after
# the other: 83 % of the groups in words are among them, and 9 % of those in random letters.
_COMMON: Final = (
    "aanaarabaabeabiablaboabsaccaceachaciackactadaaddadeadiadladmadoadradsadvafeaffaftagaageaggagiagr"
    "agtailainairaisaitakaakeakiaksaktalaalcaldalealiallaloalpalsaltalualvalyamaambameamiammamoampams"
    "anaancandaneanganianjankannanoansantanuanyapaapeaphapiappaprapsaptaraarcardareargariarkarlarmarn"
    "aroarrarsartaryasaascaseashasiaskasoassastasuataatcateathatiatoatsattatuaudaugaulaunaurausautava"
    "aveaviavoawaayeaysazaazibacbalbanbarbasbatbeabecbedbehbelbenberbesbetbiabilbinbirbitbjeblebliblo"
    "bmibooborbouboxbrabrebribrobsebstbugbuibunbusbutbytcaccadcalcamcancapcarcascatcauccecciccoccuced"
    "ceecelcencepcerceschachechichochrchtchuciacidciecifcinciocipcitckackeckicksclacleclicloclucodcol"
    "comconcopcorcoucovcracrecricrocryctactectictlctoctsctuculcumcurcuscutdabdaddaldandapdardasdatday"
    "ddeddiddrdeadebdecdeddefdeldemdendepderdesdetdevdexdgediadicdiddiedifdigdindiodirdisditdivdledli"
    "dmidocdokdomdondordosdowdradredridroducduldumdupdureaceadeakealeameaneareaseatebaebeeboebsebueca"
    "ecceceechecieckeclecoecrectecuedaeddedeediedoedsedueedeekeeneepeereetefaefeeffefiefoefuegaegeegi"
    "egoegreguehaehoeigeineireitejeekselaeldeleelielleloelselyemaembemeemiemoempenaencendeneengenienn"
    "enoensentenuenveorepaepeeplepoepreptequeraerbercerdereerfergerierkerlermerneroerperrerserteruerv"
    "erweryesaesceseeshesiesoespessestesuetaetceteethetietoetretsettetueureusevaeveeviewaewiewsexaexc"
    "exeexiexpextfacfaifalfaufecfelferfetffeffificfiefigfilfinfirfixflaflefloflufolforfoufrafrefroful"
    "fungadgalgangargatgedgelgengergesgetggeggightgifgingisgitglegliglogmegnagnegnignogorgragregrogru"
    "gtaguagueguigungurhabhadhaihakhalhamhanhapharhashathavheahechedhelhemhenherheshethiehilhinhiphis"
    "hithodholhonhoohorhoshothouhowhrehrihrohtthuniabiadialianiariasiatibeibiiblibuicaiceichiciickico"
    "icsictidaiddideidiidoiedielienieriesietieviewifeiffifiiftifyigaigeighigiignigriguikaikeikiikoila"
    "ildileiliilliloilsiltilyimaimeimiimoimpimuinaincindineinfinginhiniinjinkinninoinpinsintinuinvion"
    "ioriosiouipeiplippipsiptiquiraireiriirmiroirsirtisaisciseishisiiskismisoispissistisuitaiteithiti"
    "itlitoitsittituityivaiveiviixeizaizeizijanjarjavjecjenjsokagkalkankarkaskedkeekelkenkerkesketkey"
    "kinkitklakleknokolkomkonkopkorkovksiktikumkuplablacladlaglailamlanlaplarlaslatlaulaylbalculdalde"
    "ldildslealecledlegleklemlenlerlesletlevlexlialibliclidlielifligliklimlinliplislitlivlizllallelli"
    "llollsllylmeloaloblocloglonlooloplorlosloulovlowloylseltalteltiltrludlueluglumlurluslutluxlvalve"
    "macmadmagmaimakmalmanmapmarmasmatmaxmazmbambembimeamedmelmemmenmermesmetmicmigmilminmirmismitmiz"
    "mmammemocmodmonmormosmotmoumovmpamplmpomprmptmulmutnabnacnadnagnalnamnannarnasnatnaunavncancench"
    "ncinclnconcrnctncyndandendindlndondrndsneanecnedneenegnelnennernesnetnewnfinfongangenginglngongs"
    "ngunhanianicnienifniknimninnipnisnitniznjanjenlenlinlonmanmennannenninnononnornosnotnounovnownpa"
    "npunrensansensfnshnsinslnsonspnstnsuntantentintlntontrntsnulnumnutnvanvenvinvooadoarobaobjoblobs"
    "ocaoccoceockocoocsocuodaodeodioduoesoffofiogeoggogroidoinojeokeokuolaoldoleoliolloloolsoluolvoma"
    "ombomeomiommomoomponaoncondoneonfongonionlonnonoonsontonvookoolooroosootopaopeopioppopropsoptopu"
    "opyoraorcordoreorgoriorkormornoroorrorsortoryosaoseosiossostotaoteothotiotootsottoucoudougouloun"
    "oupourousoutovaoveoviowaoweowiownowspacpagpaipalpanparpaspatpdapeapecpedpenperpespetphaphephipia"
    "picpiepilpinpirpitplaplepliplopluplypodpoipolponpopporpospotppeppipplppopprpraprepripropteptipto"
    "ptspubpulpurpusputquaquequiquorabracradrafragrairalramranraprarrasratravrawrazrbarcarcerchrcirda"
    "rderdirdsrearebrecredreerefregreirejrelremrenreorepreqrerresretreurevrewrforgergirgsriaribricrid"
    "rierifrigrikrilrimrinrioriprisritrivrizrkerkirksrlirlyrmarmermirmsrnarnernirnsrobrocrodrofrogrol"
    "romronrooroprorrosrotrourovrowrporrarrerrirrorsershrsirsorstrtarterthrtirtsrturtyrucrulrumrunrup"
    "rusrvarvervirwaryprzesabsacsafsagsalsamsansarsatsausavsayscasceschscoscrseasecsedseesegselsemsen"
    "sepseqsersessetshasheshishoshusiasibsicsidsigsilsimsinsiosissitsivsizskaskislasleslislosmasnisoc"
    "solsomsonsorsouspaspespisplsposprsqlssassessissossustastcstdstestistostrstsstustysuasubsucsulsum"
    "sunsupsurswaswisynsystabtactadtagtaitaktaltamtantartastattavtaxtchtcoteatectedtegteitekteltemten"
    "teptertestettevtexthathethithothrthutiatictietiftigtiltimtintiotiptirtistittivtletlitlytnatoctog"
    "toktomtontootoptortostottratretritrotrutrytsetsitstttattettittottpttrttytuatudtuntupturtustuttva"
    "twotyltypualuanuaruatublubmubsuccuceuchuciuctudaudeudiueluenueruesuffughuiduiluiruisuitulauldule"
    "uliullultumaumbumeumpunauncunduneunguniunlunnunpunrunsuntuotupeuplupouppupsuraurcureuriurlurnurr"
    "ursuruusauseushusiuslussustusuutauteuthutiutoutsuttutuvaivalvanvarvasvatvedvelvenvervesviavicvid"
    "vievilvinviovirvisvitvoivolvorwagwaiwalwanwarwatwaywebwedwerwhawhewhiwidwilwinwiswitworwrawrixce"
    "xclxecxedxesximxisxpexpixplxpoxtextryanyeryinyleymeyncyouypeyptystytezadzatzedzenzerzeszinziozon"
)
COMMON: Final = frozenset(_COMMON[at : at + 3] for at in range(0, len(_COMMON), 3))
WORD_BITS: Final = 6.0  # a word from a short list of those people take
LETTER_BITS: Final = 4.7
DIGIT_BITS: Final = 3.3
MARK_BITS: Final = 3.0
WORDLIKE: Final = 0.5  # share of common groups in what counts as a word
LONGEST: Final = 256  # characters of a text that are weighed
_RUNS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[-_. /]+|[^A-Za-z0-9]")


@lru_cache(maxsize=65536)
def is_wordlike(run: str) -> bool:
    """Whether letters read like a word; two letters never do, for too many would."""
    lower = run.lower()
    groups = len(lower) - 2
    if groups < 1:
        return False
    common = sum(lower[at : at + 3] in COMMON for at in range(groups))
    return common / groups >= WORDLIKE


@lru_cache(maxsize=65536)
def bits(text: str) -> float:
    """Bits to guess `text`; a word counts as 6, a random letter or digit as 4.7 and 3.3."""
    text = text[:LONGEST]
    if not text:
        return 0.0
    total = sum(_run_bits(run) for run in _RUNS.findall(text))
    steps = [ord(after) - ord(before) for before, after in pairwise(text)]
    even = sum(one == other and -1 <= one <= 1 for one, other in pairwise(steps))
    if even > 0.3 * len(steps):
        total *= 0.3  # "aaaa", "12345678", "abcdefgh"
    return min(total, shannon(text) * len(text))


def _run_bits(run: str) -> float:
    first = run[0]
    if first.isascii() and first.isalpha():
        return WORD_BITS if len(run) > 2 and is_wordlike(run) else LETTER_BITS * len(run)
    if first.isdigit():
        is_year = len(run) == 4 and run[:2] in {"19", "20"}
        return WORD_BITS if is_year or run in "0123456789012345" else DIGIT_BITS * len(run)
    return 0.5 if first in "-_. /" else MARK_BITS


def shannon(text: str) -> float:
    """Entropy of the characters of a text, in bits for one."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values())
